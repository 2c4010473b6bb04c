"""Infer order of execution, stages and known families from the names in a state dict.

A pickled state dict keeps the order in which modules were defined; safetensors sorts its keys. `execution_order`
guesses the order from sorted names, so it is used only without a module graph.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mkfa.banks.bank import UNKNOWN

# Words order siblings: inputs first, channel mixing after spatial mixing, outputs last. Numbers decide before words
# (patch_embed1, blocks1, patch_embed2, blocks2).
_FIRST = frozenset(["stem", "input", "start", "first", "begin", "pre", "tokenizer"])
_EARLY = frozenset(["embed", "embedding", "embeddings", "embedder", "downsample", "downsampler"])
_LATER = frozenset(["mlp", "ffn", "feedforward", "mid", "middle", "bottleneck"])
_LAST = frozenset(["head", "heads", "classifier", "final", "last", "end", "post", "output", "top"])
_LAST |= {"fc", "neck", "fpn", "decoder", "decode", "up", "upsample"}
_NUMBER = re.compile(r"([0-9]+)")


def execution_order(keys: Iterable[str]) -> list[str]:
    """Return keys sorted by names: numbers as numbers, stem before stages before head."""
    return sorted(keys, key=_key_rank)


def is_sorted(keys: Sequence[str]) -> bool:
    """True if keys are in alphabetical order, which says nothing of the network."""
    return all(a <= b for a, b in itertools.pairwise(keys))


def _key_rank(key: str) -> tuple[tuple[object, ...], ...]:
    return tuple(_part_rank(part) for part in key.split("."))


@lru_cache(maxsize=65536)
def _part_rank(part: str) -> tuple[object, ...]:
    """Rank one dotted component: (place by word, number at its end, place among equals, its text)."""
    text, digits = re.fullmatch(r"(.*?)([0-9]*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
    words = set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower().split("_"))
    place = 0 if words & _FIRST else 4 if words & _LAST else 2
    shade = 1 if words & _EARLY else 3 if words & _LATER else 2
    if not digits and place == 2:
        place = shade
    number = int(digits[:18]) if digits else -1
    natural = tuple((0, 0, c) if i % 2 == 0 else (1, int(c[:18]), "") for i, c in enumerate(_NUMBER.split(text)))
    return (place, number, shade, natural, part)


_WRAPPER = re.compile(r"_(?:[a-z]+_)?(?:orig|original|wrapped|forward|fpw)_mod(?:ule)?|base_layer")


def plain_name(key: str) -> str:
    """Return a key without the components that torch.compile, FSDP, checkpointing, Fabric and PEFT put into it.

    Examples
    --------
    >>> plain_name("stages.0._checkpoint_wrapped_module.dwconv.weight")
    'stages.0.dwconv.weight'
    """
    if not _WRAPPER.search(key):
        return key
    return ".".join(part for part in key.split(".") if not _WRAPPER.fullmatch(part))


def spellings(keys: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield name -> key for the ways in which a network may have been named before it was wrapped.

    First come the keys as they are; then without wrappers; without `module` (DataParallel); and with `stages.0` for
    `stages_0`, as timm's feature extractors name it. Only ways that keep the names apart are given.
    """
    known = list(keys)
    seen: set[tuple[str, ...]] = set()
    names = known
    for step in (None, plain_name, _without_module, _with_dots):
        names = names if step is None else [step(name) for name in names]
        if len(set(names)) == len(known) and tuple(names) not in seen:
            seen.add(tuple(names))
            yield dict(zip(names, known, strict=True))


def _without_module(key: str) -> str:
    return ".".join(part for part in key.split(".") if part != "module")


def _with_dots(key: str) -> str:
    return ".".join(re.sub(r"^([A-Za-z]+)_(\d+)$", r"\1.\2", part) for part in key.split("."))


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
    """Return the stage, counted from 0, of each key; `UNKNOWN` if its name does not contain it.

    A pattern for stages has to fit at least half of the keys. `everything` are the names of all tensors of the
    network, which show whether its stages are counted from 0 or from 1.
    """
    names = list(everything)
    for pattern in _STAGE_PATTERNS:
        matches = [pattern.search(key) for key in keys]
        if sum(match is not None for match in matches) * 2 < max(len(keys), 1):
            continue
        first = min((_stage_number(match) for match in map(pattern.search, names) if match), default=0)
        # A stage without tensors leaves a gap at the start, but counting starts at 0 or at 1.
        return [UNKNOWN if match is None else _stage_number(match) - (first >= 1) for match in matches]
    return [UNKNOWN] * len(keys)


def _stage_number(match: re.Match[str]) -> int:
    return int(match[1][:6])


@dataclass(frozen=True, slots=True)
class Family:
    """A family of networks recognised by names; all its depthwise layers have stride 1.

    `marks` are patterns that all occur among the names of the network; `dilations` maps the end of a weight's name to
    the dilation that the family's code fixes.
    """

    name: str
    marks: tuple[str, ...]
    dilations: tuple[tuple[str, int], ...]
    note: str


FAMILIES = (
    Family(
        "MogaNet",
        (r"\.attn\.value\.DW_conv2\.weight$", r"\.attn\.value\.PW_conv\.weight$", r"\.mlp\.decompose\.weight$"),
        (
            (r"\.attn\.value\.DW_conv0\.weight$", 1),
            (r"\.attn\.value\.DW_conv1\.weight$", 2),
            (r"\.attn\.value\.DW_conv2\.weight$", 3),
            (r"\.mlp\.dwconv\.weight$", 1),
        ),
        "names are MogaNet's: dilations 1, 2, 3 of DW_conv0, 1, 2 are those of its published code (a network built "
        "with attn_final_dilation=False has 1, 2, 1 in its last stage)",
    ),
    Family(
        "HorNet",
        (r"\.gnconv\.proj_in\.weight$", r"\.gnconv\.pws\.\d+\.weight$"),
        ((r"\.gnconv\.dwconv(?:\.dw)?\.weight$", 1),),
        "names are HorNet's: stride and dilation 1 are those of its published code",
    ),
    Family(
        "ConvNeXt",
        (r"(?:^|\.)downsample_layers\.0\.0\.weight$", r"\.\d+\.\d+\.pwconv1\.weight$"),
        ((r"(?:^|\.)stages\.\d+\.\d+\.dwconv\.weight$", 1),),
        "names are ConvNeXt's: stride and dilation 1 are those of its published code",
    ),
)


def known_family(keys: Sequence[str], everything: Iterable[str]) -> tuple[Family, list[int]] | None:
    """Return the family that all `keys` belong to, with the dilation of each key, or None."""
    names = list(everything)
    for family in FAMILIES:
        if not all(any(re.search(mark, name) for name in names) for mark in family.marks):
            continue
        dilations = [next((d for end, d in family.dilations if re.search(end, key)), 0) for key in keys]
        if keys and all(dilations):
            return family, dilations
    return None
