"""Domains of drawings, from unpacked packages: letters, scripts, emoji, clip art."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import U8
from mkfa.errors import WorkError

SEED = 0
"""Seed of the order of the images, the splits and the crops."""
MASTER = 64
"""Side of drawings, pixels; smaller sizes are exact box averages."""

EMOJI_PACKAGES = ("emoji-datasource-google", "emoji-datasource-twitter")
_EMOJI = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
_CLIPART = {
    "animals": ("animals/",),
    "buildings": ("buildings/",),
    "computer": ("computer/hardware", "computer/buttons"),
    "flags": ("signs_and_symbols/flags",),
    "food": ("food/",),
    "maps": ("geography/",),
    "music": ("recreation/music",),
    "office": ("office/",),
    "people": ("people/",),
    "plants": ("plants/",),
    "games": ("recreation/games",),
    "shapes": ("shapes/",),
    "roadsigns": ("transportation/roadsigns",),
    "sports": ("recreation/sports",),
    "pictograms": ("transportation/aiga-symbols",),
    "tools": ("tools/",),
    "transport": ("transportation/vehicles", "transportation/boating", "transportation/"),
}
"""Class -> folders of the package; the longest matching one names an image's class."""
_NO_SCRIPT = frozenset(
    (
        "? LATIN MATHEMATICAL CJK MODIFIER COMBINING SIGNWRITING MASCULINE FEMININE BLACK-LETTER DOUBLE-STRUCK SCRIPT "
        "HANGUL KATAKANA HIRAGANA MASU ALEF DUPLOYAN"
    ).split()
)
"""First words of Unicode names that are not writing systems, or too close to another one."""
_TWO_WORDS = frozenset(("OLD", "NEW", "LINEAR", "TAI", "PAU", "PAHAWH", "MENDE", "WARANG", "CAUCASIAN", "KAYAH"))


@dataclass(slots=True)
class Samples:
    """Images of one domain while they are collected.

    Attributes
    ----------
    classes : list of str
    images : list of (S, S, C) uint8
    labels : list of int
    groups : what an image shows; a group goes to one side of the split.
    test : the side of each image; empty if the groups decide.
    guard : drop test images whose thumbnail is also on the train side.
    """

    classes: list[str]
    images: list[U8] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    test: list[bool] = field(default_factory=list)
    guard: bool = True

    def add(self, image: U8, label: int, group: str) -> None:
        """Add an image."""
        self.images.append(image)
        self.labels.append(label)
        self.groups.append(group)


def rank(text: str) -> int:
    """Return a number that depends only on the text: a shuffle that does not depend on the order in a package."""
    return int.from_bytes(hashlib.sha1(f"{SEED}:{text}".encode()).digest()[:6], "big")


def letters(work: Path) -> Samples:
    """A to Z, both cases in one class, in the display fonts of fonts-aenigma; a group is a font family."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
    from PIL import ImageFont

    out = Samples([chr(65 + i) for i in range(26)])
    for path in sorted((work / "deb/fonts-aenigma").rglob("*.ttf")):
        table = TTFont(path, lazy=True)
        mapped = table.getBestCmap() or {}
        family = re.split(r"[\s\-_(]+", (table["name"].getDebugName(1) or path.stem).strip())[0].lower()
        font, glyphs = ImageFont.truetype(str(path), 96), {}
        for char in map(chr, [*range(65, 91), *range(97, 123)]):
            if ord(char) in mapped and (glyph := _glyph(font, char)) is not None:
                glyphs[char] = glyph
        upper = {char: glyph.tobytes() for char, glyph in glyphs.items() if char.isupper()}
        if len(set(upper.values())) < 24:  # dingbats, and fonts with one placeholder
            continue
        for char, glyph in glyphs.items():
            if char.islower() and upper.get(char.upper()) == glyph.tobytes():
                continue  # a font of one case: the same drawing twice
            out.add(glyph, ord(char.upper()) - 65, family)
    return out


def scripts(work: Path, *, count: int = 40, cap: int = 150) -> Samples:
    """Writing systems of letters in Noto Sans and Serif; a group is a code point."""
    from fontTools.ttLib import TTFont
    from PIL import ImageFont

    have: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((work / "deb/fonts-noto-core").rglob("*.ttf")):
        plain = re.search(r"Noto(Sans|Serif|Naskh|Kufi|Looped)[A-Za-z]*-(Regular|Bold)\.ttf$", path.name)
        if not plain or re.search(r"Math|Symbols|Display|UI-|Mono", path.name):
            continue
        for point in TTFont(path, lazy=True).getBestCmap():
            if unicodedata.category(chr(point)) in ("Lo", "Lu", "Ll", "Nl"):
                script = _script(chr(point))
                if script not in _NO_SCRIPT:
                    have[script][point].append(path)
    ranked = sorted((s for s in have if len(have[s]) >= 40), key=lambda s: (-len(have[s]), s))
    names = sorted(ranked[:count])
    out, fonts = Samples([name.lower() for name in names]), {}
    for label, script in enumerate(names):
        drawn = 0
        for point in sorted(have[script], key=lambda c: rank(f"cp{c}")):
            for path in sorted(have[script][point])[:3]:
                if path not in fonts:
                    fonts[path] = ImageFont.truetype(str(path), 96)
                glyph = _glyph(fonts[path], chr(point))
                if glyph is not None and drawn < cap:
                    out.add(glyph, label, f"U+{point:04X}")
                    drawn += 1
    return out


def _script(char: str) -> str:
    if 0x17000 <= ord(char) <= 0x18AFF:  # Python gives these ideographs no name
        return "TANGUT"
    words = unicodedata.name(char, "?").split()
    return " ".join(words[:2]) if words[0] in _TWO_WORDS else words[0]


def _glyph(font: Any, char: str, box: int = 52) -> U8 | None:
    """Draw one glyph black on white, its ink scaled to `box` pixels and centred; None for a blank one."""
    from PIL import Image, ImageDraw

    try:
        x0, y0, x1, y1 = font.getbbox(char)
    except OSError:  # FreeType cannot load this outline
        return None
    width, height = x1 - x0, y1 - y0
    if min(width, height) < 4 or max(width, height) > 2000:
        return None
    picture = Image.new("L", (int(width + 4), int(height + 4)), 0)
    try:
        ImageDraw.Draw(picture).text((2 - x0, 2 - y0), char, font=font, fill=255)
    except OSError:
        return None
    ink = picture.getbbox()
    if ink is None:
        return None
    picture = picture.crop(ink)
    scale = box / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    page = Image.new("L", (MASTER, MASTER), 0)
    page.paste(picture, ((MASTER - picture.width) // 2, (MASTER - picture.height) // 2))
    return np.asarray(255 - np.asarray(page)[..., None], np.uint8)


def emoji(work: Path) -> Samples:
    """Unicode categories of emoji drawn by Google and Twitter; a group is an emoji with its variants."""
    from PIL import Image

    out = Samples(list(_EMOJI))
    for package in EMOJI_PACKAGES:
        vendor = package.rsplit("-", 1)[1]
        root = work / "npm" / package / "package"
        sheet = Image.open(root / f"img/{vendor}/sheets/64.png").convert("RGBA")
        for entry in json.loads((root / "emoji.json").read_text("utf-8")):
            if entry["category"] in _EMOJI and entry[f"has_img_{vendor}"]:
                x, y = entry["sheet_x"] * 66 + 1, entry["sheet_y"] * 66 + 1
                drawing = _square(sheet.crop((x, y, x + 64, y + 64)))
                out.add(drawing, _EMOJI.index(entry["category"]), _emoji_group(entry))
    return out


def _emoji_group(entry: dict[str, Any]) -> str:
    """Return the name shared by the variants of an emoji by gender, person and hour."""
    name = str(entry["short_name"])
    group = re.sub(
        r"\b(man|woman|men|women|male|female|person|people|boy|girl|s|sign)\b", "", re.sub(r"[-_]", " ", name)
    )
    group = re.sub(r"\s+|\d+", "", group)
    if name.startswith(("clock", "family")):
        group = name[:5]
    return f"{entry['category']}:{group or entry['unified']}"


def clipart(work: Path, *, cap: int = 300) -> Samples:
    """Subjects of drawings of openclipart; a group is a series: folder and file name up to its first digit."""
    from PIL import Image

    base = next((p for p in sorted((work / "deb/openclipart-png").rglob("png")) if p.is_dir()), None)
    if base is None:
        raise WorkError(work / "deb/openclipart-png", "has no folder png", "fetch the package again (--fetch)")
    classes: dict[str, str] = {}
    for file in sorted(p.relative_to(base).as_posix() for p in base.rglob("*.png")):
        hits = [(len(folder), c) for c, folders in _CLIPART.items() for folder in folders if file.startswith(folder)]
        if hits:
            classes[file] = max(hits)[1]
    out, seen, count = Samples(list(_CLIPART)), set(), Counter[str]()
    for file in sorted(classes, key=rank):
        name = classes[file]
        if count[name] >= cap or "not_found" in file or (file.startswith("shapes/stars") and rank(file) % 20):
            continue  # shapes/stars has over a thousand drawings that are nearly the same: one in twenty
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                picture = Image.open(base / file)
            inked = None if max(picture.size) > 4000 else _crop_to_ink(picture)
            drawing = None if inked is None else _square(inked)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            continue  # a poster that is too large
        except (OSError, SyntaxError, ValueError):  # some files of the package are damaged
            continue
        if drawing is None or drawing.tobytes() in seen or drawing.std() < 3:
            continue
        seen.add(drawing.tobytes())
        count[name] += 1
        stem = Path(file).stem.lower()
        series = re.split(r"\d", stem)[0].strip("_-") or stem
        out.add(drawing, out.classes.index(name), f"{Path(file).parent}/{series}")
    return out


def _crop_to_ink(picture: Any) -> Any:
    """Crop to the drawing (not transparent, not white); None for an empty picture."""
    from PIL import Image

    picture = picture.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, (255,) * 4), picture).convert("L")
    box = flat.point(lambda v: 255 * (v < 250)).getbbox()
    return picture.crop(box) if box and min(box[2] - box[0], box[3] - box[1]) >= 8 else None


def _square(picture: Any) -> U8:
    """Lay a picture on white, pad it to a square and resize it to the master size; (S, S, 3) uint8."""
    from PIL import Image

    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255,) * 4)
    picture = Image.alpha_composite(white, picture).convert("RGB")
    side = max(picture.size)
    page = Image.new("RGB", (side, side), (255,) * 3)
    page.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    how = Image.Resampling.LANCZOS if side > MASTER else Image.Resampling.BICUBIC
    return np.asarray(page.resize((MASTER, MASTER), how), np.uint8)
