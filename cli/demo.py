"""`mkfa demo`: the whole path on bundled data, without network."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.options import OUTPUT, Force, option
from mkfa.cli.shared.printing import VOICE, say

STEPS: tuple[tuple[str, str, str], ...] = (
    (
        "harvest: collect the depthwise filters of a checkpoint into a bank",
        "The checkpoint is PP-OCR's classifier of text direction, a real network of half a megabyte. A bank is "
        "one HDF5 file that plain h5py reads: a layer table and the filters, contiguous by kernel size.",
        "harvest {out}/ppocr_cls.safetensors --out {out}/ppocr_cls.h5 --training-set 'text lines, upright and "
        "upside down (PaddleOCR)' --licence Apache-2.0",
    ),
    (
        "figure: what the filters of four networks look like",
        "Random filters of the first, a middle and the last layer of two networks for text and two for objects.",
        "figure filters {out}/ppocr_cls.h5 ppocrv4_rec efficientnet_lite0 mobilenet_v2 --out {out}/filters.png",
    ),
    (
        "compare: did a network for objects and one for text learn the same filters?",
        "Each measure stands between its floor (two halves of one network) and chance. 'shuffled' and 'gaussian' "
        "are weak nulls, 'blurred' (any smooth pattern) and 'covariance-layer' (the second moments of every layer) are "
        "strict ones.",
        "compare --a efficientnet_lite0 --b ppocrv4_rec --kernel-size 5x5 --figure {out}/compare.png --out "
        "{out}/compare.json",
    ),
    (
        "assign: which Gaussian-derivative pattern does each filter follow?",
        "Every filter gets the best pattern, its parameters, R² and the runner-up; the null's shares are shown beside.",
        "assign efficientnet_lite0 --figure {out}/assign.png --out {out}/assign.json",
    ),
    (
        "atlas: are there clusters, and who has which?",
        "Filters of both networks modulo gain, offset and sign; the number of clusters is justified against a null.",
        "atlas {out}/ppocr_cls.h5 efficientnet_lite0 --kernel-size 5x5 --figure {out}/atlas.png --out {out}/atlas.h5",
    ),
    (
        "keys: how few filters explain them all, up to gain and offset?",
        "Compared with the eight published master keys, beside what smooth noise scores on them.",
        "keys {out}/ppocr_cls.h5 efficientnet_lite0 --kernel-size 5x5 --figure {out}/keys.png --out {out}/keys.json",
    ),
    (
        "transfer-curve: does it matter where the filters came from?",
        "A residual mixer of 6 layers learns digits while its first n layers keep filters borrowed from clothes "
        "(transfer), drawn at random (random), or that mix no pixels at all (delta). The last sentence is the answer, "
        "with its interval. 'mkfa transfer-curve' is the real experiment: 18 layers, about ten minutes on two cores.",
        "transfer-curve --layers 3,6 --source fashion --target digits --arch resmixer_32_6 --arms "
        "transfer,random,delta --seeds 5 --recipe fast --equal-steps 150 --set batch=32 --set lr=0.01 --out "
        "{out}/curve",
    ),
    (
        "report: everything on one page that opens in a browser",
        "Filters of each layer to hover, the map with a lasso, layers compared, patterns beside chance, keys, the "
        "curve. What was written above is shown, what is missing is computed. The page loads nothing: send it as it "
        "is.",
        "report {out}/ppocr_cls.h5 efficientnet_lite0 {out}/atlas.h5 {out}/compare.json {out}/keys.json {out}/curve "
        "--draws 99 --out {out}/report.html",
    ),
)
"""Heading, explanation, command."""
MARK = "Written by 'mkfa demo'."
"""First line of the README.txt in the demo's folder, by which the demo recognises files that it may replace."""


def demo(
    out: Annotated[Path, option("--out -o", "FOLDER", "Folder for what the demo writes.", **OUTPUT)] = Path(
        "mkfa-demo"
    ),
    force: Force = False,
) -> None:
    """Show the whole path on bundled data, without network.

    From harvest to a transfer curve. Run again, it goes on where it stopped and replaces its own files.
    """
    from mkfa.cli.verbs import app

    run_demo(app, out, force=force)


def run_demo(app: typer.Typer, out: Path, *, force: bool) -> None:
    """Run every step as the user would type it and sum up what was written."""
    from mkfa.storage.folders import data_file

    prepare(out, force=force)
    started, quiet = time.monotonic(), VOICE.quiet
    checkpoint = data_file("ppocr_cls.safetensors").read_bytes()
    (out / "ppocr_cls.safetensors").write_bytes(checkpoint)
    for number, (heading, explanation, command) in enumerate(STEPS, 1):
        arguments = [part.replace("{out}", str(out)) for part in shlex.split(command)]
        say(f"\n=== {number}/{len(STEPS)} {heading}")
        say(explanation)
        say(f"$ {shlex.join(['mkfa', *arguments])}\n", wrap=False)
        extra = [] if arguments[0] == "transfer-curve" else ["--force"]  # that one goes on where it stopped
        if app([*(["--quiet"] if quiet else []), *arguments, *extra], standalone_mode=False):
            raise KeyboardInterrupt  # the parser returns an exit code only then
    found = sorted(p for p in out.rglob("*") if p.is_file() and "runs" not in p.parts and p.name != "README.txt")
    lines = [f"{p.relative_to(out)!s:24} {p.stat().st_size:>9} bytes" for p in found]
    commands = [f"mkfa {command.replace('{out}', shlex.quote(str(out)))}" for _, _, command in STEPS]
    text = "\n".join([MARK, "", *lines, "", "The commands:", *commands])
    (out / "README.txt").write_text(text + "\n", encoding="utf-8")
    say(f"\nDone in {time.monotonic() - started:.0f} s. Figures, results and the bank are in {out}/ :", wrap=False)
    for line in lines:
        say(f"  {line}", wrap=False)
    page = out / "report.html"
    say(f"Next: open {page} in a browser; harvest a network of your own: mkfa harvest CHECKPOINT_OR_TIMM_NAME")


def prepare(out: Path, *, force: bool) -> None:
    """Make the demo's folder; refuse one with files that the demo did not write unless `force`."""
    from mkfa.errors import MkfaError

    if out.exists() and not out.is_dir():
        raise MkfaError(out, "is a file, not a folder", "choose another --out")
    mark = out / "README.txt"
    ours = mark.is_file() and mark.read_text("utf-8", errors="replace").startswith(MARK)
    if out.is_dir() and any(out.iterdir()) and not (ours or force):
        raise MkfaError(out, "has files in it already", "choose another --out or pass --force to replace them")
    try:
        out.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{MARK} It has not finished.\n", encoding="utf-8")
    except OSError as error:
        raise MkfaError(out, f"cannot be made ({error.strerror})", "choose another --out") from error
