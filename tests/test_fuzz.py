"""A short run of the fuzzer on every reader; the long one is `python tests/fuzz_readers.py`."""

from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    return load_script(Path(__file__).with_name("fuzz_readers.py"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "inputs"), [("safetensors", 300), ("torch", 700), ("onnx", 500), ("tflite", 500), ("bank", 500)]
)
def test_damaged_files_are_read_or_refused(fuzzer: ModuleType, reader: str, inputs: int) -> None:
    done = fuzzer.fuzz(reader, inputs, seed=7)
    assert done.failures == []
    assert done.inputs == inputs
    assert done.corpus > 4, "no mutation reached anything new: the guidance does not work"


def test_the_fuzzer_finds_what_is_broken(fuzzer: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        if path.read_bytes()[8:9] != b"{":
            raise KeyError("x")

    target = fuzzer.Target(".safetensors", fuzzer.safetensors_seeds, broken)
    monkeypatch.setitem(fuzzer.TARGETS, "broken", target)
    done = fuzzer.fuzz("broken", 300, seed=0, crashes=tmp_path / "found")
    assert done.failures and "KeyError" in done.failures[0]
    assert len(list((tmp_path / "found").iterdir())) == len(done.failures)
