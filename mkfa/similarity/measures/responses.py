"""Responses of filters to one fixed bank of stimuli, and debiased CKA between them.

Responses are rectified, |<f, x>|: without it, linear CKA is a function of the filters' second moments alone (and
`bures`, `frobenius` and `angles` show those already); with it, a filter's sign does not matter either.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from mkfa.array_types import F32, F64

NATURAL = 64
"""Patches of scikit-learn's two sample photographs (china.jpg, flower.jpg), half of each."""
SYNTHETIC = ("1/f noise", "grating", "edge", "dot")
EACH = 16
"""Stimuli of each synthetic sort."""
SEED = 20260
"""The stimulus bank is fixed: values of different runs can be compared."""


@lru_cache(maxsize=16)
def stimuli(kh: int, kw: int) -> F32:
    """Return the stimulus bank for one kernel size, (128, K) float32: zero-mean, unit-norm patches."""
    rng = np.random.default_rng([SEED, kh, kw])
    rows = [*_natural(kh, kw, rng), *(_synthetic(sort, (kh, kw), rng) for sort in SYNTHETIC for _ in range(EACH))]
    bank = np.stack([row.ravel() for row in rows])
    bank -= bank.mean(axis=1, keepdims=True)
    bank /= np.maximum(np.linalg.norm(bank, axis=1, keepdims=True), 1e-12)
    out = bank.astype(np.float32)
    out.flags.writeable = False  # cached: shared by all callers
    return out


def _natural(kh: int, kw: int, rng: np.random.Generator) -> list[F64]:
    """Cut patches with contrast (above the median of what is drawn) out of the photographs, in grey."""
    patches: list[F64] = []
    for picture in _photographs():
        top = rng.integers(0, picture.shape[0] - kh, NATURAL)
        left = rng.integers(0, picture.shape[1] - kw, NATURAL)
        cut = np.stack([picture[y : y + kh, x : x + kw] for y, x in zip(top, left, strict=True)])
        order = np.argsort(-cut.reshape(NATURAL, -1).std(axis=1), kind="stable")
        patches.extend(cut[order[: NATURAL // 2]])
    return patches


def _photographs() -> list[F64]:
    """Read scikit-learn's sample photographs without importing scikit-learn, which takes a second."""
    from importlib.util import find_spec

    from PIL import Image

    spec = find_spec("sklearn")
    folder = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
    pictures = []
    for name in ("china.jpg", "flower.jpg"):
        with Image.open(folder / "datasets" / "images" / name) as picture:
            pictures.append(np.asarray(picture.convert("L"), np.float64))
    return pictures


def _synthetic(sort: str, size: tuple[int, int], rng: np.random.Generator) -> F64:
    kh, kw = size
    y, x = np.mgrid[:kh, :kw].astype(np.float64)
    y, x = y - (kh - 1) / 2, x - (kw - 1) / 2
    if sort == "1/f noise":
        side = 4 * max(kh, kw)
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
        spectrum = np.fft.fft2(rng.standard_normal((side, side))) / np.maximum(frequency, 1 / side)
        return np.asarray(np.fft.ifft2(spectrum).real[:kh, :kw])
    angle, shift = rng.uniform(0, math.pi), rng.uniform(-0.5, 0.5) * max(kh, kw)
    across = x * math.cos(angle) + y * math.sin(angle)
    if sort == "grating":
        return np.asarray(np.cos(2 * math.pi * rng.uniform(0.08, 0.5) * across + rng.uniform(0, 2 * math.pi)))
    if sort == "edge":
        return np.asarray(np.tanh((across - shift / 2) / rng.uniform(0.2, 1.0)))
    centre = rng.uniform(-0.5, 0.5, 2) * (kh / 2, kw / 2)
    return np.asarray(np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * rng.uniform(0.4, 1.2) ** 2)))


def gram(cloud: F32, patches: F32, *, rectify: bool = True) -> F32:
    """Return the Gram matrix of the stimuli in response space, (..., S, S) float32: the number of filters drops out.

    Parameters
    ----------
    cloud : (..., N, K) float32, canonical filters.
    patches : (S, K) float32.
    """
    response = patches @ cloud.swapaxes(-1, -2)
    if rectify:
        np.abs(response, out=response)
    mean = response @ response.swapaxes(-1, -2) / np.float32(max(cloud.shape[-2], 1))
    return np.asarray(mean, np.float32)


def u_centred(matrix: F32) -> F32:
    """Return U-centred Gram matrices with zero diagonal, (..., S, S); Szekely & Rizzo 2014, equation 2.6."""
    n = matrix.shape[-1]
    out = matrix.astype(np.float64)
    diagonal = (..., range(n), range(n))
    out[diagonal] = 0
    row = out.sum(axis=-1) / (n - 2)
    out -= row[..., :, None]
    out -= row[..., None, :]
    out += row.sum(axis=-1)[..., None, None] / (n - 1)
    out[diagonal] = 0
    return out.astype(np.float32)


def debiased_cka(a: F32, b: F32) -> F64:
    """Return debiased CKA of U-centred Gram matrices (..., S, S), at most 1 and about 0 for unrelated responses.

    The ratio of unbiased HSIC estimates (Song et al. 2012, equation 4; Nguyen et al. 2021); unlike plain CKA it does
    not rise with the number of filters. NaN where either Gram matrix is constant.
    """

    def product(x: F32, y: F32) -> F64:
        return np.asarray(np.einsum("...st,...st->...", x, y), np.float64)

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(product(a, b) / np.sqrt(product(a, a) * product(b, b)))
