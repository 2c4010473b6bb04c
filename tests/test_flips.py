"""Single flipped bits are noticed or harmless; `python tests/fuzz_flips.py` flips more of them."""

from pathlib import Path

import pytest
from scripts import load_script

FUZZER = load_script(Path(__file__).with_name("fuzz_flips.py"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FUZZER.KINDS)
def test_a_flipped_bit_is_noticed_or_harmless(kind: str, tmp_path: Path) -> None:
    done = FUZZER.flip(kind, 300, 7, tmp_path)
    assert (done.unnoticed, done.failures) == ([], [])
    assert done.noticed + done.harmless == 300 and done.noticed > 100
