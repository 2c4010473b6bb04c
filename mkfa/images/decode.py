"""From an image file to 8-bit RGB (Pillow on demand).

What the values of an image mean depends on its mode:

- 8 bits per channel or fewer: as Pillow converts them; no colour profile (ICC) is applied.
- 16-bit integers: the full range, of which the high byte is kept (`v >> 8`); 12-bit TIFFs: `v >> 4`. Values of 12 bits
  in a file of 16 bits are therefore dark; `levels` says where black and white are.
- 32-bit integers, signed 16-bit integers and floats, which have no usual range: one range for the whole data set, see
  `usual_range`.
- TIFFs of several channels of floats, of signed or 32-bit integers, of more than four channels, or of 16 bits in
  separate planes are refused: Pillow reads none of them, or misreads them.
- Transparent pixels show the background. Only the first frame or page is read. An EXIF orientation is not applied, as
  in `torchvision.datasets.ImageFolder` (Pillow applies that of a TIFF).
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.errors import MkfaError
from mkfa.images.domain_file import DomainError
from mkfa.storage.files import read_head
from mkfa.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image

DECODING = 2
"""Version of the rules above. A folder that was packed under other rules is packed again; files packed by hand stay.

1: every mode by Pillow's `convert("RGB")`, which clips 16-bit values and drops transparency."""
MAX_PIXELS = 1 << 27
"""Images with more pixels are not decoded: RGB of this size needs 0.5 GB of memory, other modes up to 1.7 GB."""
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "PPM", "TIFF", "JPEG2000", "AVIF", "TGA", "PCX", "ICO")
"""Formats that are recognised, whatever the file's ending. For others, such as EPS, Pillow would start a program."""
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How images are decoded.

    Attributes
    ----------
    background : (red, green, blue)
        What transparent pixels show.
    levels : (low, high) or None
        Values that become black and white in images of more than 8 bits per channel; None: as the mode demands.
    integers, floats : (low, high) or None
        The same for images of 32-bit or signed integers and of floats; None: `usual_range` of each image.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    levels: tuple[float, float] | None = None
    integers: tuple[float, float] | None = None
    floats: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse levels that are not two finite numbers, the lower one first."""
        if self.levels is not None:
            if isinstance(self.levels, str) or not isinstance(self.levels, Sequence) or len(self.levels) != 2:
                raise _wrong_levels(str(self.levels))
            low, high = self.levels
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise _wrong_levels(f"{low:g},{high:g}")


USUAL = Decoding()
"""White background, and ranges as the mode demands."""


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return a colour given by name ("white") or as "#rrggbb"; raises MkfaError.

    Examples
    --------
    >>> parse_colour("white"), parse_colour("#102030")
    ((255, 255, 255), (16, 32, 48))
    """
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise MkfaError("--background", f"unknown colour {text[:40]!r}", "say white, black, gray or #rrggbb") from None
    return red, green, blue


def parse_levels(text: str) -> tuple[float, float]:
    """Return "LOW,HIGH" as two numbers; raises MkfaError.

    Examples
    --------
    >>> parse_levels("0,4095")
    (0.0, 4095.0)
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise _wrong_levels(text) from None
    Decoding(levels=(low, high))
    return low, high


def _wrong_levels(text: str) -> MkfaError:
    return MkfaError("--levels", f"is {text[:40]!r}", "give two numbers, the lower one first: 0,4095")


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image]:
    """Open an image file; nothing but its header is read yet.

    Raises DomainError: the file is not a regular one, empty, not an image in one of `FORMATS`, or has more than
    `MAX_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    read_head(path, error=DomainError, kind="an image", give="take it out of the folder")
    _silence()
    try:
        picture = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        if found := _channels_of_tiff(path):
            raise _unread(path, found) from None
        raise DomainError(path, "is not an image that Pillow reads", "fetch it again, or convert it to PNG") from None
    except Image.DecompressionBombError as error:
        count = re.search(r"\d{6,}", str(error))
        raise _too_large(path, int(count[0]) if count else 2 * MAX_PIXELS) from None
    with picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise _too_large(path, picture.width * picture.height)
        if picture.format == "TIFF" and _is_misread(picture):
            raise _unread(path, _channels_of_tiff(path))
        yield picture


@functools.cache
def _silence() -> None:
    """Keep Pillow's log and libtiff's own lines off the terminal: what is wrong with an image is said in one sentence.

    libtiff writes to standard error from C. Builds of Pillow without it, or with it inside (Windows), are left as is.
    """
    import ctypes
    import logging

    from PIL import _imaging

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


def _is_misread(picture: Image) -> bool:
    """True for a TIFF that Pillow opens but misreads: signed bytes, or more than 8 bits in separate planes."""
    bits, kinds = _tag(picture, 258) or (1,), _tag(picture, 339) or (1,)
    planes = len(bits) > 1 and max(bits) > 8 and _tag(picture, 284) == 2
    return planes or (max(bits) <= 8 and 2 in kinds)


def _channels_of_tiff(path: Path) -> str:
    """Return the channels of a TIFF in words, "" for any other file."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with contextlib.suppress(Exception), path.open("rb") as f:  # damaged metadata does no harm
        head = f.read(8)
        if head[:4] in (b"II+\0", b"MM\0+"):
            head += f.read(8)
        if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return ""
        tags = ImageFileDirectory_v2(head)
        f.seek(tags.next)
        tags.load(f)
        count, bits, kinds = int(tags.get(277, 1)), tags.get(258, (1,)), tags.get(339, (1,))
        kind = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}.get(kinds[0], "integers")
        apart = " in separate planes" if count > 1 and tags.get(284) == 2 else ""
        packed = tags.get(259, 1)
        by = "" if packed in (1, 5, 7, 8, 32773, 32946) else f" by compression {int(packed)}"
        return f"{counted(count, 'channel')} of {bits[0]}-bit {kind}{apart}{by}"
    return ""


def _unread(path: Path, found: str) -> DomainError:
    remedy = "convert it to 8 or 16 bits per channel, gray or RGB; floats of one channel are read at 32 bits"
    return DomainError(path, f"is a TIFF of {found}, which Pillow does not read", remedy)


def _too_large(path: Path, count: int) -> DomainError:
    problem = f"has {count / 1e6:,.0f} million pixels; at most {MAX_PIXELS / 1e6:.0f} million are read"
    return DomainError(path, problem, "scale it down")


def is_turned(picture: Image) -> bool:
    """True for an image with an EXIF orientation other than upright, which Pillow applies to TIFFs only."""
    if picture.format == "TIFF" or "exif" not in picture.info:
        return False
    try:
        return picture.getexif().get(0x0112, 1) in range(2, 9)
    except Exception:  # damaged metadata does no harm
        return False


def to_rgb(picture: Image, decoding: Decoding = USUAL) -> Image:
    """Return an image in mode RGB, by the rules of this module.

    Raises OSError or ValueError: the file is damaged or truncated, or its mode cannot be converted.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> gray = Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16))
    >>> np.asarray(to_rgb(gray))[0, :, 0].tolist()
    [0, 0, 1, 255]
    >>> to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), Decoding(background=(9, 8, 7))).getpixel((0, 0))
    (9, 8, 7)
    """
    rawmode = _rawmode(picture)
    picture.load()
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _gray(picture, decoding)
    if picture.mode == "LAB":
        return _from_lab(picture)
    alpha: Any = None
    if picture.mode in _ALPHA or (picture.mode == "P" and _has_clear_colours(picture)):
        for mode in ("LA",) * (picture.mode == "La") + ("RGBA",) * (picture.mode != "RGBA"):
            picture = picture.convert(mode)
        alpha = picture.getchannel("A")
        picture = picture.convert("RGB")
    elif "transparency" in picture.info and picture.mode in ("1", "L", "RGB"):
        key, picture = _key(picture.info["transparency"], rawmode), _without_key(picture)
        alpha = _alpha_of(picture, key)
    elif picture.mode != "RGB":
        picture = picture.convert("RGB")
    return _composite(picture, alpha, decoding)


def _has_clear_colours(picture: Image) -> bool:
    """True for an image with a palette whose colours may be transparent."""
    return "transparency" in picture.info or (picture.palette is not None and picture.palette.mode.endswith("A"))


def _rawmode(picture: Image) -> str:
    """Return how Pillow unpacks the file ("L;2", "RGB;16B"), which tells the depth of its values; "" if unknown."""
    tile = getattr(picture, "tile", None)
    args = tile[0][3] if tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _key(colour: Any, rawmode: str) -> tuple[int, ...]:
    """Return the transparent colour (tRNS) in the range of the 8-bit image; the file has it in its own depth."""
    values = colour if isinstance(colour, tuple) else (colour,)
    if ";16" in rawmode:
        return tuple(int(v) >> 8 for v in values)
    scale = {"1": 255, "L;2": 85, "L;4": 17}.get(rawmode, 1)
    return tuple(min(255, int(v) * scale) for v in values)  # at 1 bit Pillow has scaled it already


def _without_key(picture: Image) -> Image:
    """Return the image in RGB without its transparent colour, which `convert` would misread at other depths."""
    picture = picture.copy()
    del picture.info["transparency"]
    return picture.convert("RGB")


def _alpha_of(picture: Image, key: tuple[int, ...]) -> Image:
    """Return the mask of an RGB image: 0 where it has the transparent colour, 255 elsewhere."""
    from PIL import Image

    wanted = np.array(key if len(key) == 3 else key * 3)
    return Image.fromarray(np.where((np.asarray(picture) == wanted).all(2), 0, 255).astype(np.uint8))


def _composite(picture: Image, alpha: Any, decoding: Decoding) -> Image:
    """Lay an image onto the background, in place: colour * alpha + background * (1 - alpha)."""
    from PIL import ImageChops

    if alpha is not None and alpha.getextrema()[0] < 255:
        picture.paste(decoding.background, mask=ImageChops.invert(alpha))
    return picture


def _gray(picture: Image, decoding: Decoding) -> Image:
    """Return an image of numbers (modes I, I;16, F) in RGB."""
    from PIL import Image

    values = np.asarray(picture)
    key = picture.info.get("transparency")
    alpha = None if key is None else Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    if decoding.levels is None and (bits := _bits(picture)):
        values = values.astype(np.uint16, copy=False)
        if _white_is_zero(picture):
            values = (1 << bits) - 1 - values
        gray = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    else:
        values = _unsigned(picture, values)
        own = decoding.floats if picture.mode == "F" else decoding.integers
        low, high = decoding.levels or own or usual_range([extremes(values)], floats=picture.mode == "F")
        gray = _stretch(values, low, high)
        if _tag(picture, 262) == 0:  # white is the lowest value
            gray = 255 - gray
    return _composite(Image.fromarray(gray).convert("RGB"), alpha, decoding)


def _bits(picture: Image) -> int:
    """Return the bits of an image of unsigned integers that use a known range: 16 or 12; 0 for others."""
    if picture.mode.startswith("I;16"):
        depth = _tag(picture, 258) or (16,)
        return 12 if tuple(depth) == (12,) else 16
    return 16 if picture.mode == "I" and picture.format in ("PNG", "PPM") else 0  # Pillow widens these to 32 bits


def _white_is_zero(picture: Image) -> bool:
    """True for a 16-bit TIFF that stores white as 0, which Pillow inverts for 8 bits only."""
    return picture.mode.startswith("I;16") and _tag(picture, 262) == 0


def _tag(picture: Image, number: int) -> Any:
    """Return a tag of a TIFF, None for other images."""
    return picture.tag_v2.get(number) if picture.format == "TIFF" else None  # type: ignore[attr-defined]


def _unsigned(picture: Image, values: AnyArray) -> AnyArray:
    """Return 32-bit values as the TIFF means them: Pillow reads unsigned ones as signed."""
    if picture.mode == "I" and _tag(picture, 258) == (32,) and tuple(_tag(picture, 339) or (1,)) == (1,):
        return values.view(np.uint32)
    return values


def _stretch(values: AnyArray, low: float, high: float) -> AnyArray:
    """Map `low` to 0 and `high` to 255, clip, and round; not-a-number becomes 0. Rows at a time, to save memory."""
    out = np.zeros(values.shape, np.uint8)
    scale = 255.0 / (high - low) if high > low else 0.0
    for row in range(0, len(values), 256):
        part = (values[row : row + 256].astype(np.float64) - low) * scale
        out[row : row + 256] = np.rint(np.clip(np.nan_to_num(part, nan=0.0, posinf=255.0, neginf=0.0), 0, 255))
    return out


def extremes(values: AnyArray) -> tuple[float, float]:
    """Return the lowest and highest finite value; (0, 0) if there is none."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def usual_range(of_images: Iterable[tuple[float, float]], *, floats: bool) -> tuple[float, float]:
    """Return the values that become black and white, from the lowest and highest value of each image.

    Floats within 0 to 1 get the range 0 to 1, and values within 0 to 255 the range 0 to 255, if they reach the upper
    half of it; any others get the range from the lowest to the highest.

    Examples
    --------
    >>> usual_range([(0.1, 0.4), (0.0, 0.9)], floats=True), usual_range([(0.1, 0.4)], floats=True)
    ((0.0, 1.0), (0.1, 0.4))
    >>> usual_range([(3, 200)], floats=False), usual_range([(-1000, 2000)], floats=False)
    ((0.0, 255.0), (-1000.0, 2000.0))
    """
    pairs = list(of_images) or [(0.0, 0.0)]
    low, high = min(a for a, _ in pairs), max(b for _, b in pairs)
    for top in (1.0, 255.0) if floats else (255.0,):
        if low >= 0 and top / 2 < high <= top:
            return 0.0, top
    return float(low), float(high)


def wide_range(path: Path) -> tuple[str, tuple[float, float]] | None:
    """Return the mode ("I" or "F") and the extremes of an image without a usual range; None for any other file."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(path) as picture:
                if picture.mode not in ("I", "F") or _bits(picture):
                    return None
                return picture.mode, extremes(_unsigned(picture, np.asarray(picture)))
    except MemoryError:
        raise
    except Exception:  # packing reports images that cannot be decoded
        return None


def _from_lab(picture: Image) -> Image:
    """Return a CIELAB image (D50) in sRGB."""
    from PIL import ImageCms

    profiles = [ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")]
    converted: Any = ImageCms.profileToProfile(picture, profiles[0], profiles[1], outputMode="RGB")
    return converted  # type: ignore[no-any-return]
