"""Every mode in its own range, transparency on a background, and files that are too large or not images."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from mkfa.errors import MkfaError
from mkfa.images import decode
from mkfa.images.decode import Decoding, open_image, parse_colour, parse_levels, to_rgb, usual_range
from mkfa.images.domain_file import DomainError, read_domain
from mkfa.images.listing import list_folder
from mkfa.images.pack import pack
from mkfa.images.rows import scaled

GREEN = (0, 200, 10)
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
RGB = np.stack([RAMP, RAMP.T, 255 - RAMP], 2)
ALPHA = np.roll(RAMP, 5, 0)


def png(depth, colour, rows, *, extra=b""):
    """A PNG by hand: bit depth, colour type, bytes of each row, and further chunks before the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width = len(rows[0]) * 8 // (depth * channels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0))
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def trns(data):
    return struct.pack(">I", len(data)) + b"tRNS" + data + struct.pack(">I", zlib.crc32(b"tRNS" + data))


def tiff(values, *, bits, kind=1, photometric=1, big=False, extra=()):
    """An uncompressed TIFF by hand: kind 1 unsigned, 2 signed, 3 float; values (H, W) or (H, W, C)."""
    height, width = values.shape[:2]
    count = values.shape[2] if values.ndim == 3 else 1
    e = ">" if big else "<"
    data = values.astype(values.dtype.newbyteorder(e)).tobytes()
    shorts = {258: (bits,) * count, 259: (1,), 262: (photometric,), 277: (count,), 339: (kind,) * count}
    shorts |= {338: extra} if extra else {}
    longs = {256: (width,), 257: (height,), 273: (0,), 278: (height,), 279: (len(data),)}
    entries, tail = [], b""
    start = 8 + 2 + 12 * (len(shorts) + len(longs)) + 4
    for tag in sorted(shorts | longs):
        code, letter = (3, "H") if tag in shorts else (4, "I")
        found = (shorts | longs)[tag]
        packed = struct.pack(f"{e}{len(found)}{letter}", *found)
        if len(packed) > 4:
            packed, tail = struct.pack(f"{e}I", start + len(tail)), tail + packed + b"\0" * (len(packed) % 2)
        entries.append((tag, code, len(found), packed.ljust(4, b"\0")))
    at = start + len(tail)
    body = b"".join(
        struct.pack(f"{e}HHI", tag, code, n) + (struct.pack(f"{e}I", at) if tag == 273 else value)
        for tag, code, n, value in entries
    )
    head = (b"MM" if big else b"II") + struct.pack(f"{e}HIH", 42, 8, len(entries))
    return head + body + b"\0\0\0\0" + tail + data


def read(path, decoding=decode.USUAL):
    with open_image(path) as picture:
        return np.asarray(to_rgb(picture, decoding)).astype(int)


def on(colour, alpha, ground):
    """colour * alpha + ground * (1 - alpha), in exact arithmetic."""
    a = np.asarray(alpha, float)[..., None] / 255
    return np.asarray(colour, float) * a + np.asarray(ground, float) * (1 - a)


def gray(values):
    return np.repeat(np.asarray(values, int)[..., None], 3, 2)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_16_bit_gray_keeps_its_high_byte(mode, tmp_path):
    values = (np.arange(256).reshape(16, 16) * 257 - 100).clip(0).astype(np.uint16)
    data = values.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    assert np.array_equal(to_rgb(Image.frombytes(mode, (16, 16), data)), gray(values >> 8))
    (tmp_path / "a.png").write_bytes(png(16, 0, values.astype(">u2").view(np.uint8)))
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    (tmp_path / "a.tif").write_bytes(tiff(values, bits=16))
    (tmp_path / "b.tif").write_bytes(tiff(values, bits=16, big=True))
    for path in tmp_path.iterdir():
        assert np.array_equal(read(path), gray(values >> 8)), path.name
    (tmp_path / "white.tif").write_bytes(tiff(values, bits=16, photometric=0))
    assert np.array_equal(read(tmp_path / "white.tif"), gray((65535 - values) >> 8))


def test_10_and_12_bits_are_taken_by_what_the_file_says(tmp_path):
    values = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 4095\n" + values.astype(">u2").tobytes())
    assert np.abs(read(tmp_path / "a.pgm") - gray(values / 16)).max() <= 1
    pairs = values.reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, ((pairs[:, 0] & 15) << 4) | (pairs[:, 1] >> 8), pairs[:, 1] & 255], 1)
    data = tiff(packed.astype(np.uint8).reshape(16, 24), bits=12)
    at = data.index(struct.pack("<HHI", 256, 4, 1))
    (tmp_path / "a.tif").write_bytes(data[: at + 8] + struct.pack("<I", 16) + data[at + 12 :])
    assert np.array_equal(read(tmp_path / "a.tif"), gray(values >> 4))
    (tmp_path / "b.tif").write_bytes(tiff(values, bits=16))  # the file says 16 bits: dark, unless the user knows better
    assert read(tmp_path / "b.tif").max() == 4080 >> 8
    assert np.array_equal(read(tmp_path / "b.tif", Decoding(levels=(0, 4095))), gray(np.rint(values * 255.0 / 4095)))


@pytest.mark.parametrize(
    ("values", "bits", "kind", "span"),
    [
        (np.linspace(0, 1, 256), 32, 3, (0, 1)),
        (np.linspace(0.1, 0.4, 256), 32, 3, (0.1, 0.4)),
        (np.linspace(0.1, 0.9, 256), 32, 3, (0, 1)),
        (np.arange(256) // 32, 32, 2, (0, 7)),
        (np.linspace(0, 255, 256), 32, 3, (0, 255)),
        (np.linspace(-3, 9, 256), 32, 3, (-3, 9)),
        (np.linspace(0, 3000, 256), 32, 3, (0, 3000)),
        (np.arange(256) * 16_000_000, 32, 1, (0, 255 * 16_000_000)),
        (np.arange(256), 32, 2, (0, 255)),
        (np.arange(256) * 9 - 1000, 32, 2, (-1000, 255 * 9 - 1000)),
        (np.arange(256) * 9 - 1000, 16, 2, (-1000, 255 * 9 - 1000)),
    ],
)
def test_wide_numbers_are_read_by_a_rule(values, bits, kind, span, tmp_path):
    values = values.reshape(16, 16)
    (tmp_path / "a.tif").write_bytes(tiff(values.astype(f"{'uif'[kind - 1]}{bits // 8}"), bits=bits, kind=kind))
    wanted = (values - span[0]) / (span[1] - span[0]) * 255
    assert np.abs(read(tmp_path / "a.tif") - gray(np.rint(wanted))).max() <= 1
    assert usual_range([(values.min(), values.max())], floats=kind == 3) == pytest.approx(span)
    assert np.abs(read(tmp_path / "a.tif", Decoding(levels=span)) - gray(np.rint(wanted))).max() <= 1


def test_values_that_are_not_numbers_are_black_and_infinite_ones_are_clipped():
    values = np.array([[0, 1, np.nan, np.inf, -np.inf, 0.5]], np.float32)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 255, 0, 255, 0, 128]
    assert np.asarray(to_rgb(Image.fromarray(np.full((2, 2), np.nan, np.float32)))).max() == 0
    assert np.asarray(to_rgb(Image.fromarray(np.full((2, 2), 7, np.int32)))).max() == 0


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("big", [False, True])
def test_16_bit_colour_keeps_its_high_bytes(samples, big, tmp_path):
    wide = (np.dstack([RGB, ALPHA])[..., :samples].astype(np.uint16) << 8) + 77
    extra = (2,) if samples == 4 else ()
    (tmp_path / "a.tif").write_bytes(tiff(wide, bits=16, photometric=2, big=big, extra=extra))
    (tmp_path / "a.png").write_bytes(
        png(16, 2 if samples == 3 else 6, wide.reshape(16, -1).astype(">u2").view(np.uint8))
    )
    wanted = RGB if samples == 3 else on(RGB, ALPHA, GREEN)
    for name in ("a.tif", "a.png"):
        assert np.abs(read(tmp_path / name, Decoding(background=GREEN)) - wanted).max() <= 0.51


@pytest.mark.parametrize("ground", [(255, 255, 255), GREEN])
@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_transparent_pixels_show_the_background(mode, ground):
    decoding = Decoding(background=ground)
    if mode in ("LA", "La"):
        picture = Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(ALPHA)]).convert(mode)
        wanted = on(gray(RAMP), ALPHA, ground)
    elif mode == "PA":
        picture = Image.frombytes("PA", (16, 16), np.stack([RAMP, ALPHA], 2).tobytes())
        picture.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
        wanted = on(np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 7)], 2), ALPHA, ground)
    else:
        picture = Image.fromarray(np.dstack([RGB, ALPHA])).convert(mode)
        wanted = on(RGB, ALPHA, ground)
    error = np.abs(np.asarray(to_rgb(picture, decoding)) - wanted)
    # a premultiplied colour is known to 255 / alpha of a level before it is composited again
    assert error.max() <= (1.6 if mode in ("La", "RGBa") else 0.51)
    opaque = Image.fromarray(np.dstack([RGB, np.full_like(RAMP, 255)])).convert(mode if "RGB" in mode else "RGBA")
    assert np.array_equal(to_rgb(opaque, decoding), RGB)


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 1), (2, 3), (4, 9), (8, 200), (16, 40000)])
def test_a_transparent_gray_level_is_found_at_every_depth(depth, key, tmp_path):
    top = (1 << depth) - 1
    values = np.array([(key * (i % 2 == 0) + (0 if key else 1) * (i % 2)) for i in range(16)])
    dtype, big = (np.uint8, values) if depth <= 8 else (">u2", values)
    if depth < 8:
        bits = ((big[:, None] >> np.arange(depth - 1, -1, -1)) & 1).ravel()
        row = np.packbits(bits.astype(np.uint8))
    else:
        row = big.astype(dtype).view(np.uint8)
    (tmp_path / "a.png").write_bytes(png(depth, 0, [row] * 3, extra=trns(struct.pack(">H", key))))
    shown = np.where(values == key, 0, 255)
    levels = values >> 8 if depth == 16 else values * (255 // top)
    found = read(tmp_path / "a.png", Decoding(background=GREEN))
    assert np.array_equal(found[0], on(gray(levels[None]), shown[None], GREEN)[0])


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_and_a_transparent_palette(depth, tmp_path):
    pixels = np.array([[(1, 2, 3), (1, 2, 4), (200, 2, 3)]]) * (257 if depth == 16 else 1)
    row = pixels.astype(">u2").view(np.uint8).ravel() if depth == 16 else pixels.astype(np.uint8).ravel()
    (tmp_path / "a.png").write_bytes(png(depth, 2, [row], extra=trns(struct.pack(">HHH", *pixels[0, 0]))))
    assert read(tmp_path / "a.png", Decoding(background=GREEN)).tolist() == [[list(GREEN), [1, 2, 4], [200, 2, 3]]]
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([9, 9, 9, 50, 60, 70, 1, 1, 1])
    picture.save(tmp_path / "p.png", transparency=bytes([0, 255, 51]))
    wanted = on([[(9, 9, 9), (50, 60, 70), (1, 1, 1)]], [[0, 255, 51]], GREEN)
    assert np.abs(read(tmp_path / "p.png", Decoding(background=GREEN)) - wanted).max() <= 0.51
    picture.save(tmp_path / "p.gif", transparency=2)
    wanted = [[[9, 9, 9], [50, 60, 70], list(GREEN)]]
    assert read(tmp_path / "p.gif", Decoding(background=GREEN)).tolist() == wanted


def test_other_modes_are_what_their_formulas_say(tmp_path):
    def one(mode, *value):
        return to_rgb(Image.new(mode, (1, 1), value)).getpixel((0, 0))

    assert one("CMYK", 0, 255, 255, 0) == (255, 0, 0) and one("CMYK", 0, 0, 0, 255) == (0, 0, 0)
    assert one("YCbCr", 128, 128, 128) == (128, 128, 128)
    assert np.abs(np.array(one("YCbCr", 76, 85, 255)) - (255, 0, 0)).max() <= 2  # BT.601
    assert one("HSV", 0, 255, 200) == (200, 0, 0)
    assert one("RGBX", 1, 2, 3, 0) == (1, 2, 3)
    assert to_rgb(Image.fromarray(np.eye(2) > 0)).getpixel((0, 0)) == (255, 255, 255)
    # CIELAB at L* = 50, a* = b* = 0: Y = ((50 + 16) / 116)^3, gamma of sRGB
    level = 255 * (1.055 * ((66 / 116) ** 3) ** (1 / 2.4) - 0.055)
    assert np.abs(np.array(one("LAB", 128, 128, 128)) - level).max() <= 2.5
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)  # Adobe's: stored inverted
    assert np.abs(read(tmp_path / "a.jpg")[4, 4] - (255, 0, 0)).max() <= 3


def test_first_frames_orientation_and_profiles(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if "webp" in name else {})
        )
        assert read(tmp_path / name)[0, 0].tolist() == [250, 0, 0]
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB[:8]).save(tmp_path / "turned.png", exif=exif, icc_profile=profile)
    assert np.array_equal(read(tmp_path / "turned.png"), RGB[:8])
    for part in ("train", "test"):
        (tmp_path / "set" / part / "a").mkdir(parents=True)
        for name, number in (("up", 1), ("left", 8), ("odd", 77)):
            exif[0x0112] = number
            Image.fromarray(RGB).save(tmp_path / "set" / part / "a" / f"{name}.jpg", exif=exif)
        Image.fromarray(RGB).save(tmp_path / "set" / part / "a" / "none.jpg", exif=b"Exif\0\0damaged")
    done = pack(list_folder(tmp_path / "set"), tmp_path / "p.h5", size=8, workers=1)
    assert done.notes == ("2 images have an EXIF orientation, which is not applied, as in torchvision",)
    assert done.train == 4


def test_ordinary_images_are_what_pillow_makes_of_them(tmp_path):
    picture = Image.fromarray(RGB)
    for name, mode in (
        ("a.png", "RGB"),
        ("b.png", "L"),
        ("c.png", "P"),
        ("d.jpg", "CMYK"),
        ("e.png", "1"),
        ("f.bmp", "RGB"),
    ):
        picture.convert(mode).save(tmp_path / name)
        with Image.open(tmp_path / name) as other:
            assert np.array_equal(read(tmp_path / name), np.asarray(other.convert("RGB"))), name


def test_one_range_for_all_floats_of_a_set(tmp_path):
    for part in ("train", "test"):
        for c, high in (("dim", 2.0), ("bright", 8.0)):
            folder = tmp_path / "set" / part / c
            folder.mkdir(parents=True)
            ramp = np.linspace(0, high * (1.5 if part == "test" else 1), 64).reshape(8, 8)
            (folder / "1.tif").write_bytes(tiff(ramp.astype(np.float32), bits=32, kind=3))
    done = pack(list_folder(tmp_path / "set"), tmp_path / "p.h5", size=8, workers=1)
    domain = read_domain(done.path)
    assert domain.classes == ("bright", "dim")
    assert [int(x.max()) for x in domain.x_train] == [255, 64]  # 2 of 8
    assert [int(x.max()) for x in domain.x_test] == [255, 96]  # clipped; 3 of 8
    assert done.notes == (
        "images of floats have values from 0 to 8; 0 is read as black and 8 as white (--levels changes this)",
    )
    done = pack(list_folder(tmp_path / "set"), tmp_path / "q.h5", size=8, workers=1, decoding=Decoding(levels=(0, 16)))
    assert done.notes == ()
    assert [int(x.max()) for x in read_domain(done.path).x_train] == [128, 32]


def test_what_is_not_an_image_is_said_in_a_sentence(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    for name, content, problem in (
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"hello there", "is not an image that Pillow reads"),
        ("page.jpg", b"<!DOCTYPE html><html>", "is a web page, not an image"),
        ("lfs.jpg", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ("eps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that Pillow reads"),
        ("huge.png", png(1, 0, [b"\0"]).replace(struct.pack(">II", 8, 1), struct.pack(">II", 60000, 60000)), None),
    ):
        if problem is None:
            content = content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
            problem = "has 3,600 million pixels; at most 134 million are read"
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DomainError) as caught, open_image(tmp_path / name):
            pass
        assert problem in str(caught.value) and str(tmp_path / name) in str(caught.value)
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as endpoint:
        monkeypatch.chdir(tmp_path)
        endpoint.bind("socket.jpg")
        for name in ("pipe.jpg", "socket.jpg"):
            with pytest.raises(DomainError, match="is not a regular file"), open_image(tmp_path / name):
                pass
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match="truncated"), open_image(tmp_path / "cut.png") as picture:
        to_rgb(picture)
    monkeypatch.setattr(decode, "MAX_PIXELS", 255)
    with pytest.raises(DomainError, match="million pixels"), open_image(tmp_path / "whole.png"):
        pass


def test_long_and_tiny_images_fit_into_memory(tmp_path):
    import tracemalloc

    Image.new("RGB", (60001, 1), (10, 20, 30)).save(tmp_path / "long.png")
    tracemalloc.start()
    assert scaled(tmp_path / "long.png", 224).reshape(-1, 3).mean(0).tolist() == [10, 20, 30]
    tracemalloc.stop()
    marked = np.zeros((1, 60001, 3), np.uint8)
    marked[0, 30000] = 255
    for turned in (marked, marked.transpose(1, 0, 2)):
        out = scaled(np.ascontiguousarray(turned), 64)[..., 0].astype(int)
        assert np.array_equal(out, out[::-1, ::-1]) and out[32, 32] > 200  # the middle stays the middle
    Image.new("L", (1, 1), 7).save(tmp_path / "tiny.png")
    assert (scaled(tmp_path / "tiny.png", 32) == 7).all()


def test_options_are_checked():
    assert parse_colour("#fff") == parse_colour("white") == (255, 255, 255)
    for wrong in ("", "wite", "#12"):
        with pytest.raises(MkfaError, match="--background: unknown colour"):
            parse_colour(wrong)
    assert parse_levels("-1000,2000.5") == (-1000, 2000.5)
    for wrong in ("", "5", "5,4", "a,b", "0,inf", "nan,1", "1,2,3", "3,3"):
        with pytest.raises(MkfaError, match="--levels: is"):
            parse_levels(wrong)
    with pytest.raises(MkfaError, match="--levels: is '5,4'"):
        Decoding(levels=(5, 4))


def test_pillow_reads_what_these_tests_write(tmp_path):
    """The writers above are right: Pillow's own TIFF has the same tags."""
    (tmp_path / "a.tif").write_bytes(tiff(RGB, bits=8, photometric=2))
    Image.fromarray(RGB).save(tmp_path / "b.tif")
    with Image.open(tmp_path / "a.tif") as a, Image.open(tmp_path / "b.tif") as b:
        assert np.array_equal(a, b)
        assert isinstance(a, TiffImagePlugin.TiffImageFile)


FLOATS = np.linspace(0, 1, 16 * 16 * 8, dtype=np.float32).reshape(16, 16, 8)


@pytest.mark.parametrize(
    ("values", "bits", "kind", "found"),
    [
        (FLOATS[..., :3], 32, 3, "3 channels of 32-bit floats"),
        (FLOATS[..., :4], 32, 3, "4 channels of 32-bit floats"),
        (FLOATS[..., :3].astype("f2"), 16, 3, "3 channels of 16-bit floats"),
        (FLOATS[..., 0].astype("f2"), 16, 3, "1 channel of 16-bit floats"),
        (FLOATS[..., 0].astype("f8"), 64, 3, "1 channel of 64-bit floats"),
        ((FLOATS[..., :3] * 9000).astype("u4"), 32, 1, "3 channels of 32-bit integers"),
        ((FLOATS[..., :3] * 9000).astype("i2"), 16, 2, "3 channels of 16-bit signed integers"),
        ((FLOATS[..., :5] * 255).astype("u1"), 8, 1, "5 channels of 8-bit integers"),
        ((FLOATS * 65535).astype("u2"), 16, 1, "8 channels of 16-bit integers"),
        ((FLOATS[..., 0] * 200 - 100).astype("i1"), 8, 2, "1 channel of 8-bit signed integers"),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_tiffs_that_pillow_does_not_read_are_refused_by_what_they_have(values, bits, kind, found, big, tmp_path, capfd):
    photometric = 2 if values.ndim == 3 and values.shape[2] in (3, 4) else 1
    (tmp_path / "a.tif").write_bytes(tiff(values, bits=bits, kind=kind, photometric=photometric, big=big))
    with (
        pytest.raises(DomainError, match=f"is a TIFF of {found}, which Pillow does not read"),
        open_image(tmp_path / "a.tif") as picture,
    ):
        to_rgb(picture)
    assert capfd.readouterr().err == ""


def test_wide_numbers_in_separate_planes_are_refused(tmp_path):
    """Pillow takes each plane for bytes, without a word."""
    raw = (FLOATS[..., :3] * 65535).astype("u2").transpose(2, 0, 1).tobytes()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    facts = {256: 16, 257: 16, 258: (16,) * 3, 259: 1, 262: 2, 277: 3, 278: 16, 284: 2, 339: (1,) * 3}
    for tag, value in {**facts, 273: (8, 8 + 512, 8 + 1024), 279: (512,) * 3}.items():
        tags[tag] = value
    directory = tags.tobytes(8 + len(raw))
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw + directory)
    match = "is a TIFF of 3 channels of 16-bit integers in separate planes"
    with pytest.raises(DomainError, match=match), open_image(tmp_path / "a.tif"):
        pass


def test_floats_whose_white_is_the_lowest_value_are_inverted(tmp_path):
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 16)
    (tmp_path / "a.tif").write_bytes(tiff(values, bits=32, kind=3, photometric=0))
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), gray(255 - np.rint(values * 255)))


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw", "jpeg", "packbits"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_libtiff_does_not_write_to_the_terminal(tmp_path, capfd, compression, damage):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.tif", compression=compression)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    if damage == "cut":
        with Image.open(tmp_path / "a.tif") as picture:
            first = picture.tag_v2[273][0]
        data[first + 100 : first + 400] = b"\xff" * 300
    else:
        data[len(data) // 2 : len(data) // 2 + 200] = b"\x5a" * 200
    (tmp_path / "a.tif").write_bytes(data)
    with contextlib.suppress(OSError), open_image(tmp_path / "a.tif") as picture:
        to_rgb(picture)
    assert capfd.readouterr().err == ""
