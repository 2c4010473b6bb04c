"""One image of each class of a domain, to see what a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mkfa.array_types import U8
from mkfa.errors import one_line
from mkfa.figures import WIDTHS, inches
from mkfa.figures.style import NARROW, SMALL, new_figure, shortened, style, wrapped
from mkfa.images.domain import Domain
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 100
"""Classes in one picture; of more classes, evenly spaced ones."""
_COLUMNS = 10
_LETTERS = 13
"""Letters of a class's name that fit above an image."""


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """The images of a contact sheet: (n, H, W, C) uint8, the names of their classes, and a title."""

    title: str
    names: tuple[str, ...]
    images: U8


def compute(domain: Domain) -> ContactSheet:
    """Take the first training image of each class that has one, of at most `MOST` classes."""
    first = {int(label): int(row) for label, row in zip(*np.unique(domain.y_train, return_index=True), strict=True)}
    labels = sorted(first)
    chosen = [labels[i] for i in np.unique(np.linspace(0, len(labels) - 1, min(MOST, len(labels))).round().astype(int))]
    images = np.stack([_square(domain.picture(first[c]), domain) for c in chosen])
    part = (
        f"{len(chosen)} of {counted(len(domain.classes), 'class', 'classes')}"
        if len(chosen) < len(domain.classes)
        else "each class"
    )
    title = f"{domain.name}: the first training image of {part}, {domain.size}x{domain.size} pixels"
    return ContactSheet(title, tuple(domain.classes[c] for c in chosen), images)


def _square(image: U8, domain: Domain) -> U8:
    """Return an image; of one that is packed whole, the centre at the domain's size."""
    if domain.extents is None:
        return image
    from mkfa.images.rows import scaled

    return scaled(np.ascontiguousarray(image), domain.size)


def draw(data: ContactSheet, ax: Axes | None = None, *, width: str = "page") -> Figure:
    """Draw the images into `ax` or a new figure, each below the name of its class, as they are: black is 0, white 255.

    Examples
    --------
    >>> from mkfa.figures.contact_sheet import compute, draw
    >>> from mkfa.images import load_domain
    >>> figure = draw(compute(load_domain("digits")))
    >>> print(figure.axes[0].get_title(loc="left"))
    digits: the first training image of each class, 32x32 pixels
    """
    n, height, across, channels = data.images.shape
    wide = inches(width)
    most = _COLUMNS if wide >= NARROW else _COLUMNS // 2
    columns = min(most, n)
    rows = -(-n // columns)
    gap, head = max(1, across // 12), max(2, across // 3)
    sheet = np.full((rows * (height + head), columns * (across + gap) - gap, 3), 255, np.uint8)
    places = [(i // columns * (height + head) + head, i % columns * (across + gap)) for i in range(n)]
    for (top, left), image in zip(places, data.images, strict=True):
        sheet[top : top + height, left : left + across] = image if channels == 3 else image.repeat(3, 2)
    with style():
        tall = 0.5 + wide * 0.98 * sheet.shape[0] / (most * (across + gap))
        new = ax is None
        ax = ax or new_figure(max(WIDTHS["column"], wide * columns / most), tall).add_subplot()
        ax.imshow(sheet, interpolation="nearest" if across <= 64 else "antialiased")
        for (top, left), name in zip(places, data.names, strict=True):
            text = shortened(one_line(name), _LETTERS)
            ax.text(left, top - gap / 2 - 1, text, fontsize=SMALL, va="bottom", parse_math=False)
            edge = [left - 0.5, left + across - 0.5, left + across - 0.5, left - 0.5, left - 0.5]
            side = [top - 0.5, top - 0.5, top + height - 0.5, top + height - 0.5, top - 0.5]
            ax.plot(edge, side, color="#bbbbbb", linewidth=0.4, clip_on=False)
        ax.set_axis_off()
        title = one_line(data.title)
        ax.set_title(wrapped(title, wide) if new else title, loc="left", parse_math=False)
    return ax.figure.figure
