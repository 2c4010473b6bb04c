"""Arms whose name says where their filters come from: `file:PATH`, `keys:NAME`, and the same with a number.

Such an arm is planned with a bank of its filters, and named after the file or bank without its folder: a run is
identified by the filters' digest and that name, so that a file may be moved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mkfa.arms.arms import Arm, find_arm
from mkfa.array_types import F32
from mkfa.banks.bank import FilterBank
from mkfa.banks.filter_array import filters_bank, read_filters
from mkfa.banks.library import load_bank
from mkfa.errors import MkfaError
from mkfa.experiments.sources import Source


def open_named(
    arms: Sequence[str], sizes: Sequence[tuple[int, int]], *, fit: str = ""
) -> tuple[list[str], dict[str, Source]]:
    """Return arms by the names that runs get, and the filters of those with a colon as sources by these names.

    Parameters
    ----------
    arms : as users name them: "file:filters.npy", "keys-8:efficientnet_lite0"; others stay as they are.
    sizes : sequence of (height, width)
        Kernel sizes of the layers that are set: the keys of a bank are found for each.
    fit : `fit_kernel` of the runs. Unless it is "", keys are found at the bank's most frequent size where it lacks one.

    Raises MkfaError: the file or bank cannot be read or has no filters of these sizes; or two arms would have one name.
    """
    names: list[str] = []
    sources: dict[str, Source] = {}
    for text in arms:
        arm = find_arm(text)
        if arm.source != "named":
            names.append(text)
            continue
        head, _, where = text.partition(":")
        bank = read_filters(where) if head.startswith("file") else _key_bank(arm, head, where, sizes, fit)
        name = f"{head}:{re.sub(r'[^A-Za-z0-9_.+=@-]+', '-', bank.name)}"
        if name in sources:
            raise MkfaError(f"--arms {text}", f"is called {name}, as another arm is", "rename one of the files")
        names.append(name)
        sources[name] = Source(bank.name, "", bank)
    return names, sources


def _key_bank(arm: Arm, head: str, where: str, sizes: Sequence[tuple[int, int]], fit: str) -> FilterBank:
    """Return the keys that are found in a bank, one layer for each kernel size."""
    from mkfa.clusters.keys import find_keys, key_filters

    bank = load_bank(where)
    has = [kind for kind in bank.kinds if (kind.dh, kind.dw) == (1, 1)] or list(bank.kinds)
    wanted = [kind for kind in has if (kind.kh, kind.kw) in sizes] or (has[:1] if fit else [])
    if not wanted:
        asked = ", ".join(f"{kh}x{kw}" for kh, kw in sizes)
        problem = f"bank {bank.name} has no filters of {asked}"
        raise MkfaError(f"arm {head}:{where}", problem, "choose --kernel or another bank, or pass --fit-kernel")
    number = arm.number if "-k" in _general(head) else None
    found: dict[str, F32] = {}
    for kind in wanted:
        if number:
            keys = key_filters([bank], kernel_size=kind, keys=number)
        else:
            keys = find_keys([bank], kernel_size=kind).clusters.prototype.reshape(-1, kind.kh, kind.kw)
        found[f"keys.{kind.kh}x{kind.kw}"] = np.asarray(keys, np.float32)
    return filters_bank(bank.name, found, source=f"{head} of {bank.name}")


def _general(head: str) -> str:
    """Return an arm's name with its number as "k"."""
    return re.sub(r"-[0-9]+$", "-k", head)
