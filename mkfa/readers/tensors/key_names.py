"""What the names in a state dict tell: order of execution, stages, families with known dilation (no arrays).

A state dict in a pickle keeps the order in which modules were defined; safetensors sorts its keys. `execution_order`
rebuilds an order from sorted names; it is a reading of names, so a module graph decides wherever there is one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mkfa.banks.bank import UNKNOWN

# A word says where a part stands among its siblings: what feeds the others first, channel mixing after spatial
# mixing, what reads the others last. Numbers decide before words do (patch_embed1, blocks1, patch_embed2, blocks2).
_FIRST = frozenset(["stem", "input", "start", "first", "begin", "pre", "tokenizer"])
_EARLY = frozenset(["embed", "embedding", "embeddings", "embedder", "downsample", "downsampler"])
_LATER = frozenset(["mlp", "ffn", "feedforward", "mid", "middle", "bottleneck"])
_LAST = frozenset(
    [
        "head",
        "heads",
        "classifier",
        "final",
        "last",
        "end",
        "post",
        "fc",
        "neck",
        "fpn",
        "decoder",
        "decode",
        "up",
        "upsample",
        "top",
        "output",
    ]
)


_NUMBER = re.compile(r"([0-9]+)")


def execution_order(keys: Iterable[str]) -> list[str]:
    """Return keys sorted by names: numbers as numbers, stem before stages before head."""
    return sorted(keys, key=_key_rank)


def is_sorted(keys: Sequence[str]) -> bool:
    """True when keys stand in alphabetical order, so that their order says nothing of the network."""
    return all(a <= b for a, b in itertools.pairwise(keys))


def _key_rank(key: str) -> tuple[tuple[object, ...], ...]:
    return tuple(_part_rank(part) for part in key.split("."))


@lru_cache(maxsize=65536)
def _part_rank(part: str) -> tuple[object, ...]:
    """Rank one dotted component: (place by word, number at its end, place among equals, the text itself)."""
    text, digits = re.fullmatch(r"(.*?)([0-9]*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
    words = set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower().split("_"))
    place = 0 if words & _FIRST else 4 if words & _LAST else 2
    shade = 1 if words & _EARLY else 3 if words & _LATER else 2
    if not digits and place == 2:
        place = shade
    number = int(digits[:18]) if digits else -1
    natural = tuple((0, 0, c) if i % 2 == 0 else (1, int(c[:18]), "") for i, c in enumerate(_NUMBER.split(text)))
    return (place, number, shade, natural, part)


_STAGE_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:^|[._])stages?[._]?(\d+)(?=[._]|$)",
        r"(?:^|\.)layers?[._]?(\d+)\.(?:blocks?|layers?|residual_group)?\.?\d+(?=\.)",
        r"(?:^|\.)blocks?(\d+)\.\d+(?=\.)",
        r"(?:^|\.)blocks?\.(\d+)\.\d+(?=\.)",
    )
)


def stages(keys: Sequence[str], everything: Iterable[str]) -> list[int]:
    """Return the stage, counted from 0, of each key; `UNKNOWN` where its name does not tell.

    One way of naming stages has to fit at least half of the keys. `everything` are the names of all tensors of the
    network: they tell whether its stages are counted from 0 or from 1.
    """
    names = list(everything)
    for pattern in _STAGE_PATTERNS:
        found = [pattern.search(key) for key in keys]
        if sum(match is not None for match in found) * 2 < max(len(keys), 1):
            continue
        first = min((_stage_number(match) for match in map(pattern.search, names) if match), default=0)
        # A stage without tensors leaves a gap at the start, but counting starts at 0 or at 1.
        return [UNKNOWN if match is None else _stage_number(match) - (first >= 1) for match in found]
    return [UNKNOWN] * len(keys)


def _stage_number(match: re.Match[str]) -> int:
    return int(match[1][:6])


@dataclass(frozen=True, slots=True)
class NamedLayer:
    """Stride and dilation (both axes) of a layer that its family's own code fixes."""

    stride: int
    dilation: int


@dataclass(frozen=True, slots=True)
class Family:
    """A family whose official files are known by their names.

    `marks` must all occur among the names of the network; `layers` maps the end of a weight's name to what it is.
    """

    name: str
    marks: tuple[str, ...]
    layers: tuple[tuple[str, NamedLayer], ...]
    note: str


_PLAIN = NamedLayer(1, 1)
FAMILIES = (
    Family(
        "MogaNet",
        (r"\.attn\.value\.DW_conv2\.weight$", r"\.attn\.value\.PW_conv\.weight$", r"\.mlp\.decompose\.weight$"),
        (
            (r"\.attn\.value\.DW_conv0\.weight$", _PLAIN),
            (r"\.attn\.value\.DW_conv1\.weight$", NamedLayer(1, 2)),
            (r"\.attn\.value\.DW_conv2\.weight$", NamedLayer(1, 3)),
            (r"\.mlp\.dwconv\.weight$", _PLAIN),
        ),
        "names are MogaNet's: dilations 1, 2, 3 of DW_conv0, 1, 2 are those of its published code (a network built "
        "with attn_final_dilation=False has 1, 2, 1 in its last stage)",
    ),
    Family(
        "HorNet",
        (r"\.gnconv\.proj_in\.weight$", r"\.gnconv\.pws\.\d+\.weight$"),
        ((r"\.gnconv\.dwconv(?:\.dw)?\.weight$", _PLAIN),),
        "names are HorNet's: stride and dilation 1 are those of its published code",
    ),
    Family(
        "ConvNeXt",
        (r"(?:^|\.)downsample_layers\.0\.0\.weight$", r"\.\d+\.\d+\.pwconv1\.weight$"),
        ((r"(?:^|\.)stages\.\d+\.\d+\.dwconv\.weight$", _PLAIN),),
        "names are ConvNeXt's: stride and dilation 1 are those of its published code",
    ),
)


def known_family(keys: Sequence[str], everything: Iterable[str]) -> tuple[Family, list[NamedLayer]] | None:
    """Return the family whose code fixes stride and dilation of all `keys`, with one entry a key, or None."""
    names = list(everything)
    for family in FAMILIES:
        if not all(any(re.search(mark, name) for name in names) for mark in family.marks):
            continue
        found = [next((what for end, what in family.layers if re.search(end, key)), None) for key in keys]
        if keys and None not in found:
            return family, [what for what in found if what is not None]
    return None
