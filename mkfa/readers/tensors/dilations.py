"""Dilations that names tell: those of published blocks, and numbers that names state.

A checkpoint without a graph does not record dilations. Some families name the dilation (`dil_conv_k7_2`), others fix it
in their published code. Where neither holds, the dilation is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Dilation = tuple[int, int]
_Told = int | Callable[[re.Match[str], tuple[int, int]], int]


@dataclass(frozen=True, slots=True)
class Rule:
    """Layers whose names tell the dilation.

    `pattern` is searched in the weight's name, `mark` (if given) has to occur among all names of the network.
    `dilation` is a number, or is computed from the match and the kernel's size; 0 tells nothing. `note` says where it
    is from.
    """

    pattern: str
    dilation: _Told
    note: str
    mark: str = ""


def _second(match: re.Match[str], _: tuple[int, int]) -> int:
    return int(match[1])


def _separable(_: re.Match[str], size: tuple[int, int]) -> int:
    return {3: 2, 5: 2, 7: 3, 11: 3, 13: 3, 17: 3}.get(max(size), 0)


def _branch_of_eesp(match: re.Match[str], _: tuple[int, int]) -> int:
    """Return the dilation of a branch: 1, 2, 3, 4 of 3x3, and 1 instead of those beyond the level's receptive field."""
    level = f"{match[1]}{match[2] or ''}"
    widest = {"2_0": 4, "3_0": 4, "3": 4, "4_0": 4, "4": 3, "5_0": 3, "5": 2}.get(level, 0)
    return sorted(d if d <= widest else 1 for d in (1, 2, 3, 4))[int(match[3])] if widest else 0


_UNIREP = "dilations of a dilated reparametrisation block are those in its names (dil_conv_kK_D)"
_DEPLOYED = "names are UniRepLKNet's, merged: dilation 1 of its kernels is that of its published code"
_LARGE = "names are RepLKNet's, SLaK's or InceptionNeXt's: dilation 1 is that of their published code"
_LKA = "names are those of large kernel attention: dilation 3 of its 7x7 kernels is that of the published code"
_LSKA = "names are those of large separable kernel attention: dilations are those of its published code"
_MLKA = "names are MAN's: dilations 2, 3 and 4 of LKA3, LKA5 and LKA7 are those of its published code"
_CGNET = "names are CGNet's: dilations 1 of F_loc and 2 or 4 of F_sur are those of its published code"
_TORCHVISION = (
    "names are those of torchvision's segmentation networks, whose MobileNetV3 has dilation 2 in its last three blocks"
)
_ASPP = "dilations 12, 24 and 36 of the pyramid are the defaults of DeepLabV3+; a network built with others has others"

_ESP = "names are ESPNetv2's: dilations of its four branches are those of its published code for each level"
_RFB = "names are those of RFBNet's depthwise blocks: dilations 1, 3 and 5 are those of its published code"

_ESP_MARK = r"\.spp_dw\.3\.(?:conv\.)?weight$"
_RFB_MARK = r"\.ConvLinear\.conv\.weight$"
_CGNET_MARK = r"\.[Ff]_sur\."
_SEGMENTATION_MARK = r"^(?:.*\.)?classifier\.(?:0\.convs\.0\.0|cbr\.0)\.weight$"

RULES = (
    Rule(r"\.dil_conv_k\d+_(\d+)\.(?:conv\.)?weight$", _second, _UNIREP),
    Rule(r"\.lk_origin\.(?:conv\.)?weight$", 1, _UNIREP),
    Rule(r"stages\.\d+\.\d+\.dwconv\.weight$", 1, _UNIREP, r"\.dwconv\.lk_origin\.weight$"),
    Rule(r"stages\.\d+\.\d+\.dwconv\.weight$", 1, _DEPLOYED, r"stages\.\d+\.\d+\.se\.down\.weight$"),
    Rule(r"\.large_kernel\.(?:lkb_origin|lkb_reparam|small_conv|LoRA\d?)\.(?:conv\.)?weight$", 1, _LARGE),
    Rule(r"\.token_mixer\.dwconv_(?:hw|w|h)\.weight$", 1, _LARGE),
    Rule(r"\.(?:spatial_gating_unit|LKA|lka)\.(?:conv_spatial|convl)\.weight$", 3, _LKA),
    Rule(r"\.(?:spatial_gating_unit|LKA|lka)\.conv0\.weight$", 1, _LKA, r"\.(?:conv_spatial|convl)\.weight$"),
    Rule(r"\.conv_spatial_[hv]\.weight$", _separable, _LSKA),
    Rule(r"\.conv0[hv]\.weight$", 1, _LSKA, r"\.conv_spatial_h\.weight$"),
    Rule(r"\.LKA3\.1\.weight$", 2, _MLKA),
    Rule(r"\.LKA5\.1\.weight$", 3, _MLKA),
    Rule(r"\.LKA7\.1\.weight$", 4, _MLKA),
    Rule(r"\.(?:LKA[357]\.0|X[357])\.weight$", 1, _MLKA, r"\.LKA7\.1\.weight$"),
    Rule(r"\.[Ff]_loc\.(?:conv\.)?weight$", 1, _CGNET, _CGNET_MARK),
    Rule(r"(?:^|\.)level2(?:_0)?\.(?:\d+\.)?F_sur\.(?:conv\.)?weight$", 2, _CGNET),
    Rule(r"(?:^|\.)level3(?:_0)?\.(?:\d+\.)?F_sur\.(?:conv\.)?weight$", 4, _CGNET),
    Rule(r"(?:^|\.)level1\.\d+\.f_sur\.weight$", 2, _CGNET),
    Rule(r"(?:^|\.)level2\.\d+\.f_sur\.weight$", 4, _CGNET),
    Rule(r"\.level([2-5])(_0)?\.(?:\d+\.|eesp\.)spp_dw\.([0-3])\.(?:conv\.)?weight$", _branch_of_eesp, _ESP, _ESP_MARK),
    Rule(r"\.level5\.\d+\.conv\.weight$", 1, _ESP, _ESP_MARK),
    Rule(r"\.branch0\.1\.conv\.weight$", 1, _RFB, _RFB_MARK),
    Rule(r"\.branch(?:1\.[23]|2\.2)\.conv\.weight$", 3, _RFB, _RFB_MARK),
    Rule(r"\.branch(?:2\.3|3\.3)\.conv\.weight$", 5, _RFB, _RFB_MARK),
    Rule(r"\.base\.\d+\.0\.weight$", 1, _RFB, r"(?:^|\.)Norm\.ConvLinear\.conv\.weight$"),
    Rule(r"(?:^|\.)backbone\.1[345]\.block\.1\.0\.weight$", 2, _TORCHVISION, _SEGMENTATION_MARK),
    Rule(r"(?:^|\.)backbone\.\d+\.block\.[01]\.0\.weight$", 1, _TORCHVISION, _SEGMENTATION_MARK),
    Rule(r"\.aspp_modules\.([123])\.depthwise_conv\.conv\.weight$", lambda m, _: 12 * int(m[1]), _ASPP),
    Rule(r"\.aspp\.0\.convs\.([123])\.0\.0\.weight$", lambda m, _: 12 * int(m[1]), _ASPP),
)

STATED = re.compile(
    r"(?:(?:^|[._])(?:dil|dilation|dilated|dilate|atrous|rate)(?:_?(?:conv|rate|dw|branch))*_?|\dx\d_?(?:d|dil|r|rate))"
    r"(\d+)(?=[._])"
)
"""A dilation that a name states: `dilated_conv_6`, `conv3x3_d2`."""


_OF_SEVERAL = re.compile(r"(?:^|[._])(?:spp_dw|ddconv\w*|rfb\w*|aspp\w*|dil\w*|atrous\w*|f_sur)[._]", re.IGNORECASE)


def of_several(names: Iterable[str]) -> list[str]:
    """Return the names that belong to a block of several dilations.

    Examples
    --------
    >>> of_several(["net.aspp.convs.1.dw.weight", "net.blocks.0.dw.weight"])
    ['net.aspp.convs.1.dw.weight']
    """
    return [name for name in names if _OF_SEVERAL.search(name)]


def named_dilations(
    names: Sequence[str], everything: Iterable[str], sizes: Sequence[tuple[int, int]]
) -> tuple[dict[str, Dilation], list[str]]:
    """Return name -> dilation of the layers whose names tell it, and notes that say how.

    Numbers that names state count unless they may be ordinals: 1, 2, 3 or 0, 1 of the same layer tell nothing.

    Parameters
    ----------
    names : of the depthwise weights.
    everything : names of all tensors of the network.
    sizes : kernel height and width of each.

    Examples
    --------
    >>> named_dilations(["a.dil_conv_k7_2.weight", "b.weight"], [], [(7, 7), (3, 3)])[0]
    {'a.dil_conv_k7_2.weight': (2, 2)}
    """
    marks = {rule.mark for rule in RULES if rule.mark}
    lines = "\n".join(everything)  # one search for all names
    marked = {mark for mark in marks if re.search(mark, lines, re.MULTILINE)}
    stated = _stated(names)
    found: dict[str, Dilation] = {}
    notes: dict[str, None] = {}
    for name, size in zip(names, sizes, strict=True):
        number, note = _by_rule(name, size, marked)
        if not number and name in stated:
            number, note = stated[name], "dilations are those that the layers' names state"
        if number:
            found[name] = (number, number)
            notes[note] = None
    return found, list(notes)


def _by_rule(name: str, size: tuple[int, int], marked: set[str]) -> tuple[int, str]:
    for rule in RULES:
        match = re.search(rule.pattern, f".{name}") if not rule.mark or rule.mark in marked else None
        if match:
            number = rule.dilation if isinstance(rule.dilation, int) else rule.dilation(match, size)
            return number, rule.note
    return 0, ""


def _stated(names: Sequence[str]) -> Mapping[str, int]:
    """Return name -> number where the numbers of layers named alike are not ordinals."""
    numbers = {name: int(match[1]) for name in names if (match := STATED.search(name))}
    alike: dict[str, set[int]] = {}
    for name, number in numbers.items():
        alike.setdefault(_pattern(name), set()).add(number)
    ordinal = {
        pattern
        for pattern, values in alike.items()
        if values in (set(range(len(values))), set(range(1, len(values) + 1)))
    }
    return {name: n for name, n in numbers.items() if n >= 1 and _pattern(name) not in ordinal}


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)
