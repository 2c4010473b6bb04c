"""Words of printed sentences: a count with its noun, a list with its last comma replaced."""

from __future__ import annotations

from collections.abc import Iterable


def counted(count: float, one: str, many: str = "") -> str:
    """Return a number and what is counted, in the singular where the number reads 1.

    Parameters
    ----------
    count : how many; whole numbers have commas from 1,000 on.
    one : the noun in the singular, with what stands before it and, where needed, the verb: "dead filter", "run is".
    many : the same in the plural; without it, `one` with an s.

    Examples
    --------
    >>> counted(1, "run"), counted(0, "run"), counted(12032, "filter"), counted(2, "class", "classes")
    ('1 run', '0 runs', '12,032 filters', '2 classes')
    >>> counted(1.0, "point"), counted(0.5, "point")
    ('1 point', '0.5 points')
    """
    number = f"{count:g}" if isinstance(count, float) else f"{count:,}"
    return f"{number} {one if number == '1' else many or one + 's'}"


def listed(items: Iterable[str], last: str = "and") -> str:
    """Return items as a sentence lists them: commas, and a word before the last.

    Examples
    --------
    >>> listed(["floor"]), listed(["floor", "ceiling"]), listed(["laptop", "gpu", "paper"], "or")
    ('floor', 'floor and ceiling', 'laptop, gpu or paper')
    """
    *first, end = items
    return f"{', '.join(first)} {last} {end}" if first else end
