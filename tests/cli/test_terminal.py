"""In a real terminal of 80 and 120 columns no number and no word is cut, and no line is too long."""

from __future__ import annotations

import os
import re
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

pytest.importorskip("termios")  # no pseudo-terminals elsewhere

SMALL = "--recipe smoke --arch convmixer_8_2 --dry-run"
GRAFT = "graft lcnet_035 --weights {home}/x.safetensors --images emoji --size 32 --count 6 --device cpu --threads 1"
PLANS = (
    f"train digits {SMALL}",
    f"transfer-curve --layers 1,2 --source letters --target digits {SMALL}",
    f"transfer --source letters --target digits --arms transfer,random --layers 2 {SMALL}",
    f"transfer-matrix --source fashion --target letters,digits --layers 2 {SMALL}",
    "transfer-sweep --channels 8,16 --kernels 3 --dry-run",
    "reproduce figure4 --scale laptop --dry-run",
    "claims run C16 --scale laptop --dry-run",
)
COMMANDS = (
    "banks",
    "show efficientnet_lite0",
    "compare --a efficientnet_lite0 --b ppocrv4_rec --kernel-size 5x5 --draws 19 --sample 32",
    "compare efficientnet_lite0 ppocrv4_rec mobilenet_v2 --kernel-size 3x3 --draws 19 --sample 32 --measures coverage",
    "assign ppocrv4_det --draws 200 --by-layer --no-store",
    "atlas ppocrv4_det --kernel-size 3x3 --clusters 4 --sample 300",
    "keys ppocrv4_det --kernel-size 3x3 --keys 4 --candidates 12 --sample 300",
    "domains",
    "runs --from bundled --experiment fashion-digits",
    "runs show 1d6d2e8fa20725f6 --from bundled --experiment digits-convnext",
    "runs compare --by arm,layers --from bundled",
    "runs draw bundled --experiment digits-18-layers",
    "runs draw bundled --experiment fashion-digits",
    "runs draw bundled --experiment matrix-18-layers",
    "doctor",
    "figure --list",
    "explain selffer",
    "claims",
    "claims list C16",
    "claims check C16 C8",
    "plan paper",
    "reproduce",
    "compare --group a=efficientnet_lite0,mobilenet_v2 --group b=ppocrv4_det,ppocrv4_rec --kernel-size 3x3 --draws 19 "
    "--sample 32 --measures coverage",
    "domains show digits",
    "explain",
    "runs --from bundled",
    "figure filters ppocrv4_det --out {home}/f.png --force",
    "report ppocrv4_det bundled --no-compute --no-data --most-filters 9 --out {home}/r.html --force",
    f"{GRAFT} --vocabulary ppocrv4_rec --sizes 8 --draws 1 --curves size,layers,similarity",
    *PLANS,
)
NUMBER = re.compile(r"(?<![\w.…-])[-+]?\d[\d,]*(?:\.\d+)?(?![\w…]|\.\d)")
WHOLE = re.compile(r"/|^ *(Trained by: |To judge it: )?mkfa [a-z-]")  # paths and commands are left whole, to be copied
TIMES = re.compile(r"about [\d.]+ (s|min|h) left")


PROGRAM = """
import fcntl, os, struct, sys, termios
from mkfa.cli.app import main
words = sys.argv[2:]
for columns in map(int, sys.argv[1].split(",")):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        assert not end.code
    sys.stdout.flush()
    os.write(1, b"\\f")
"""


def in_terminal(command: str, home: str, *columns: int) -> list[str]:
    """Run a command in a pseudo-terminal of some widths, one after the other; return what it shows in each."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "dumb", "MKFA_HOME": home}
        words = [sys.executable, "-c", PROGRAM, ",".join(map(str, columns)), *command.format(home=home).split()]
        os.execve(sys.executable, words, environment)
    shown = b""
    try:
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    except OSError:  # the program has ended
        pass
    assert os.waitpid(pid, 0)[1] == 0, shown.decode()
    os.close(terminal)
    text = TIMES.sub("about as long left", shown.decode().replace("\r\n", "\n"))
    *pages, _ = re.sub(r"\d+\.\d GB", "some GB", text).split("\f")  # free space changes while other programs run
    return pages


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    import tempfile

    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as folder:  # a short path, as it stands in the output
        torch.manual_seed(0)
        save_file(timm.create_model("lcnet_035").state_dict(), f"{folder}/x.safetensors")
        yield folder


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_cut(home, command):
    pages = in_terminal(command, home, 200, 80, 120)
    wide = pages[0]
    for columns, narrow in zip((80, 120), pages[1:], strict=True):
        long = [line for line in narrow.splitlines() if len(line) > columns and not WHOLE.search(line)]
        assert not long
        missing = set(NUMBER.findall(wide)) - set(NUMBER.findall(narrow))
        assert not missing
        whole = set(re.findall(r"[^\W\d_]{4,}", wide))
        cut = {word for word in re.findall(r"(?<![\w…._/-])[^\W\d_]{4,}(?![\w…._/-])", narrow)} - whole
        assert not cut
