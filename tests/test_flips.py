"""Single flipped bits are noticed or harmless; `python tests/fuzz_flips.py` flips more of them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_fuzzer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_flips", Path(__file__).with_name("fuzz_flips.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_flips"] = module
    spec.loader.exec_module(module)
    return module


FUZZER = load_fuzzer()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FUZZER.KINDS)
def test_a_flipped_bit_is_noticed_or_harmless(kind: str, tmp_path: Path) -> None:
    done = FUZZER.flip(kind, 300, 7, tmp_path)
    assert (done.unnoticed, done.failures) == ([], [])
    assert done.noticed + done.harmless == 300 and done.noticed > 100
