"""Parse numbers as users write them: `3`, `1..18`, `0..12..3`, `all`, joined by commas."""

from __future__ import annotations

import re

from mkfa.errors import MkfaError


def parse_numbers(text: str, option: str = "--layers", *, last: int | None = None) -> tuple[int, ...]:
    """Parse "a", "a..b" (inclusive) and "a..b..s" (every s-th), joined by commas; returns sorted, unique numbers.

    "all" stands for `last` if that is not None, alone or as an end: "all", "1..all", "0,all".

    Raises MkfaError: invalid syntax, a descending range, a step of 0, or more than 10,000 numbers.
    """
    if not text.strip():
        raise MkfaError(option, "names no number", "write it like 1..18, 0..12..3 or 1,2,4")
    chosen: set[int] = set()
    for part in (text if last is None else re.sub(r"\ball\b", str(last), text)).split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\.\.(\d{1,6})(?:\.\.(\d{1,6}))?)?\s*", part)
        if not match:
            raise MkfaError(
                f"{option} {text}",
                f"has {part.strip()!r} where a number or range is expected",
                "write it like 1..18, 0..12..3, 1,2,4" + (" or all" if last else ""),
            )
        first = int(match[1])
        end = int(match[2] or first)
        step = int(match[3] or 1)
        if end < first or step == 0:
            problem = f"has the range {part.strip()}, which is empty"
            raise MkfaError(f"{option} {text}", problem, "write the smaller end first, and a step of 1 or more")
        numbers = range(first, end + 1, step)
        if len(numbers) + len(chosen) > 10_000:
            raise MkfaError(f"{option} {text}", "has more than 10,000 numbers", "ask for fewer")
        chosen.update(numbers)
    return tuple(sorted(chosen))
