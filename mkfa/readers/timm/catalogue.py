"""Names, tags and depthwise graphs of timm, without importing timm.

A catalogue recorded by `mkfa.bundling.timm_catalogue` answers in milliseconds. If the installed timm has another
version than the recorded one, the installed timm decides, which takes seconds for its import.
"""

from __future__ import annotations

import fnmatch
import functools
import gzip
import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mkfa.banks.bank import UNKNOWN
from mkfa.errors import MkfaError, SourceError, UnknownNameError, nearest
from mkfa.readers.reading import GraphLayer
from mkfa.readers.timm.module_graph import names_digest
from mkfa.storage.folders import data_file

DATA_SETS = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laiona": "LAION-Aesthetic",
    "openai": "WIT-400M",
    "webli": "WebLI",
    "datacompxl": "DataComp-1B",
    "datacomp1b": "DataComp-1B",
    "dfndr2b": "DFNDR-2B",
    "yfcc100m": "YFCC-100M",
    "ig1b": "Instagram-1B",
    "jft": "JFT-300M",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "merged2b": "Merged-2B",
    "inw21k": "ImageNet-21k (winter 2021)",
}
"""Part of a timm tag -> training set; other parts of tags are recipes, resolutions and authors."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One set of pretrained weights in timm.

    Attributes
    ----------
    name : `architecture.tag`, or the architecture alone if timm has no tag.
    repo, file : hub repository and file; `file` "" means timm's usual `model.safetensors`, else `pytorch_model.bin`.
    url : address of weights that are not on a hub, else "".
    training_set, licence : "" if timm does not record it.
    stem : first convolution of a one-channel network (which has the shape of a depthwise one), else "".
    task : what the network was last trained for, "" if timm does not record it.
    """

    name: str
    architecture: str
    tag: str = ""
    repo: str = ""
    file: str = ""
    url: str = ""
    training_set: str = ""
    licence: str = ""
    stem: str = ""
    task: str = ""


def layers_of(architecture: str) -> tuple[GraphLayer, ...]:
    """Return an architecture's depthwise layers in order of execution, perhaps (). A tag is ignored.

    Raises UnknownNameError: neither the catalogue nor the installed timm has it.
    """
    return graph_of(architecture)[0]


def graph_of(architecture: str) -> tuple[tuple[GraphLayer, ...], Mapping[str, str]]:
    """Return (depthwise layers, other key -> key for tied weights); raises as `layers_of`."""
    architecture = architecture.partition(".")[0]
    if not is_recorded_version():
        return _live_graph(architecture)
    catalogue = _catalogue()
    record = catalogue["graphs"].get(architecture)
    if record is not None:
        return _layers(record), record.get("aliases", {})
    if architecture in catalogue["plain"]:
        return (), {}
    if architecture in catalogue["deprecated"]:
        return graph_of(catalogue["deprecated"][architecture])
    if architecture in catalogue["failed"]:
        return _live_graph(architecture)
    raise _unknown(architecture)


def names() -> set[str]:
    """Return the names of all recorded architectures, deprecated ones too."""
    catalogue = _catalogue()
    return {name for part in ("graphs", "plain", "failed", "deprecated") for name in catalogue[part]}


def saved_size(architecture: str) -> int:
    """Return about the bytes of an architecture's saved weights, for RGB images and 1000 classes; 0 if unknown.

    Known are those, of the installed timm, whose depthwise layers as recorded are also the ones that transfers count
    (`mkfa.networks.layers.spatial_layers`).
    """
    return int(_catalogue()["graphs"].get(architecture, {}).get("bytes", 0)) if is_recorded_version() else 0


def match_layers(
    shapes: Mapping[str, Sequence[int]], names: Iterable[str] = ()
) -> tuple[str, tuple[GraphLayer, ...]] | None:
    """Find the architecture whose depthwise layers are exactly those of a local checkpoint.

    Parameters
    ----------
    shapes : key, without prefixes, -> shape of every tensor shaped like a depthwise weight, (n, 1, kh, kw).
    names : names of all tensors, without prefixes; they distinguish architectures with the same depthwise layers.

    Returns
    -------
    (architecture, its layers in order of execution, under the checkpoint's keys), or None if no architecture fits or
    those that fit differ in order, dilation or multiplier. If several fit, the architecture is "", and a stride in
    which they differ (a blurred network has 1 where its plain twin has 2) is `UNKNOWN`.
    """
    wanted = {key: tuple(shape) for key, shape in shapes.items() if len(shape) == 4 and max(shape[2:]) > 1}
    if not wanted:
        return None
    matches: list[tuple[str, tuple[GraphLayer, ...]]] = []
    for name, record in _catalogue()["graphs"].items():
        aliases: Mapping[str, str] = record.get("aliases", {})
        if not _plain_counts()[name] <= len(wanted) <= len(record["keys"]) + len(aliases):
            continue
        if not aliases and f"{record['keys'][-1]}.weight" not in wanted and not _specs(record)[-1][5]:
            continue  # without tied weights every layer has its own name; making them all takes a while
        layers = under_keys(_layers(record), aliases, wanted)
        if _same(layers, aliases, wanted):
            matches.append((name, layers))
    if len(matches) > 1:
        digest = names_digest(names)
        matches = [m for m in matches if _catalogue()["graphs"][m[0]].get("names") == digest] or matches
    if matches and not is_recorded_version():
        matches = _confirmed(matches, wanted)
    if not matches or any(_essence(layers) != _essence(matches[0][1]) for _, layers in matches[1:]):
        return None
    if len(matches) == 1:
        return matches[0]
    merged = zip(*(layers for _, layers in matches), strict=True)
    return "", tuple(_merge(same) for same in merged)


def under_keys(
    layers: tuple[GraphLayer, ...], aliases: Mapping[str, str], known: Iterable[str]
) -> tuple[GraphLayer, ...]:
    """Return the layers, each under the first of its names that `known` has (tied weights have several)."""
    if not aliases:
        return layers
    names = set(known)
    other = {key: alias for alias, key in reversed(list(aliases.items())) if alias in names}
    return tuple(x if x.key in names else replace(x, key=other.get(x.key, x.key)) for x in layers)


def resolve(name: str) -> Entry:
    """Return the pretrained weights of a timm name; without a tag, the architecture's default ones.

    Raises UnknownNameError: the architecture, tag or weights do not exist; the message names the nearest ones. Raises
    SourceError: the architecture has no depthwise layer.
    """
    architecture, _, tag = name.partition(".")
    if not is_recorded_version():
        return _resolve(name, *_live_tags(architecture))
    catalogue = _catalogue()
    if architecture in catalogue["deprecated"] and catalogue["deprecated"][architecture]:
        return resolve(catalogue["deprecated"][architecture] + (f".{tag}" if tag else ""))
    if architecture in catalogue["plain"]:
        raise _no_depthwise(architecture)
    if architecture not in catalogue["tags"]:
        raise _unknown(name)
    return _resolve(name, architecture, catalogue["tags"][architecture])


def entry_of_repo(repo: str) -> Entry | None:
    """Return timm's entry for a hub repository, None if timm does not know the repository."""
    for architecture, tags in _catalogue()["tags"].items():
        for tag in tags:
            if tag.get("hub") == repo:
                return _resolve(_full_name(architecture, tag.get("tag", "")), architecture, tags)
    return None


def expand(pattern: str) -> tuple[str, ...]:
    """Return the names `architecture.tag` that match a pattern, in natural order.

    As `timm.list_models(pattern, pretrained=True)`, without networks that have no depthwise layers and those whose
    weights are not on the hub. A pattern without a dot is matched with every tag.

    Raises UnknownNameError: nothing matches.
    """
    if is_recorded_version():
        known: Mapping[str, Sequence[Mapping[str, Any]]] = _catalogue()["tags"]
    else:
        known = _live_hub_tags(pattern)
    patterns = [pattern] if "." in pattern else [pattern, f"{pattern}.*"]
    names = {
        _full_name(architecture, tag.get("tag", ""))
        for architecture, tags in known.items()
        for tag in tags
        if "hub" in tag
    }
    chosen = {name for p in patterns for name in fnmatch.filter(names, p)}
    if not chosen:
        remedy = "try a wider one, for example 'convnext*'; quote it, so that the shell leaves it alone"
        raise UnknownNameError(pattern, "matches no network with depthwise layers and weights on the hub", remedy)
    return tuple(sorted(chosen, key=_natural))


def is_recorded_version() -> bool:
    """True if the installed timm has the version that the catalogue was recorded from."""
    return installed_version() == str(_catalogue()["timm"])


@functools.cache
def installed_version() -> str:
    """Return the installed timm's version without importing it, else ""."""
    try:
        found = importlib.metadata.distribution("timm")
    except importlib.metadata.PackageNotFoundError:
        return ""
    text = found.read_text("METADATA") or ""
    stated = re.search(r"^Version: *(\S+)", text.partition("\n\n")[0], re.MULTILINE)
    return stated[1] if stated else found.version  # `version` parses the text as an e-mail, a slow import


def training_set_of(tag: str) -> str:
    """Return the training sets that a tag names, in order ("ImageNet-22k, then ImageNet-1k"), or ""."""
    return ", then ".join(dict.fromkeys(DATA_SETS[part] for part in tag.split("_") if part in DATA_SETS))


def task_of(tag: str) -> str:
    """Return the last training task of a tag with a classifier, or ""."""
    parts = tag.split("_")
    if any(re.fullmatch(r"in\w?\d+k", part) for part in parts):
        return "image classification"
    return "image-text contrast" if {"clip", "mclip", "mclip2"} & set(parts) else ""


@functools.cache
def _catalogue() -> dict[str, Any]:
    packed = data_file("timm_catalogue.json.gz").read_bytes()
    catalogue: dict[str, Any] = json.loads(gzip.decompress(packed))
    return catalogue


def _layers(record: Mapping[str, Any]) -> tuple[GraphLayer, ...]:
    layers = []
    for key, spec, stage in zip(record["keys"], _specs(record), record["stages"], strict=True):
        shape, stride, dilation, multiplier, has_bias, experts, kernel = spec
        shape, stride, dilation, kernel = map(tuple, (shape, stride, dilation, kernel))
        facts = (multiplier, bool(has_bias), stage, experts, kernel)
        layers.append(GraphLayer(f"{key}.weight", shape, stride, dilation, *facts))
    return tuple(layers)


def _specs(record: Mapping[str, Any]) -> list[list[Any]]:
    """Return what the catalogue says of each layer of a record."""
    specs = _catalogue()["specs"]
    return [specs[number] for number in record["specs"]]


@functools.cache
def _plain_counts() -> dict[str, int]:
    """Return the number of layers of each network without the conditional ones, which are stored two-dimensional."""
    conditional = {number for number, spec in enumerate(_catalogue()["specs"]) if spec[5]}
    graphs = _catalogue()["graphs"]
    return {name: sum(n not in conditional for n in record["specs"]) for name, record in graphs.items()}


def _same(layers: tuple[GraphLayer, ...], aliases: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    wanted = {layer.key: layer.shape for layer in layers if not layer.experts}
    tied = {*aliases, *aliases.values()}
    return (
        bool(wanted)
        and all(shapes.get(key) == shape for key, shape in wanted.items())
        and all(key in wanted or key in tied for key in shapes)
    )


def _essence(layers: tuple[GraphLayer, ...]) -> list[tuple[Any, ...]]:
    return [(x.key, x.dilation, x.multiplier) for x in layers]


def _merge(same: tuple[GraphLayer, ...]) -> GraphLayer:
    """Merge the same layer of several architectures."""
    stride = same[0].stride if len({x.stride for x in same}) == 1 else (UNKNOWN, UNKNOWN)
    stage = same[0].stage if len({x.stage for x in same}) == 1 else UNKNOWN
    return replace(same[0], stride=stride, stage=stage)


def _confirmed(
    matches: list[tuple[str, tuple[GraphLayer, ...]]], shapes: Mapping[str, tuple[int, ...]]
) -> list[tuple[str, tuple[GraphLayer, ...]]]:
    """Keep the matches that the installed timm confirms, with its layers."""
    kept = []
    for name, _ in matches:
        try:
            layers, aliases = _live_graph(name)
        except MkfaError:
            continue
        layers = under_keys(layers, aliases, shapes)
        if _same(layers, aliases, shapes):
            kept.append((name, layers))
    return kept


def _resolve(name: str, architecture: str, tags: Sequence[Mapping[str, Any]]) -> Entry:
    _, _, tag = name.partition(".")
    if not tags:
        problem = "has no pretrained weights in timm"
        raise UnknownNameError(architecture, problem, "name another network or a checkpoint file with --arch")
    chosen = next((t for t in tags if not tag or t.get("tag", "") == tag), None)
    if chosen is None:
        known = [t["tag"] for t in tags if "tag" in t]
        remedy = nearest(tag, known) or f"its tags are {', '.join(known[:8])}"
        raise UnknownNameError(name, f"has a tag that timm's {architecture} does not have", remedy)
    chosen_tag = chosen.get("tag", "")
    return Entry(
        name=_full_name(architecture, chosen_tag),
        architecture=architecture,
        tag=chosen_tag,
        repo=chosen.get("hub", ""),
        file=chosen.get("file", ""),
        url=chosen.get("url", ""),
        training_set=training_set_of(chosen_tag),
        licence=chosen.get("licence", ""),
        stem=chosen.get("first_conv", ""),
        task=task_of(chosen_tag) if chosen.get("classes") else "",
    )


def _full_name(architecture: str, tag: str) -> str:
    return f"{architecture}.{tag}" if tag else architecture


def _no_depthwise(architecture: str) -> SourceError:
    return SourceError(architecture, "has no depthwise layer", "harvest a network with depthwise convolutions")


def _unknown(name: str) -> UnknownNameError:
    catalogue = _catalogue()
    architecture = name.partition(".")[0]
    remedy = nearest(architecture, [*catalogue["tags"], *catalogue["plain"]])
    remedy = remedy or "give a path, a timm name such as convnext_base, or hf-hub:OWNER/NAME"
    return UnknownNameError(name, "is neither a file nor a network that timm knows", remedy)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


def _live_graph(architecture: str) -> tuple[tuple[GraphLayer, ...], Mapping[str, str]]:
    from mkfa.readers.timm.module_graph import module_graph

    graph = module_graph(architecture)
    return graph.layers, graph.aliases


def _live_tags(architecture: str) -> tuple[str, list[dict[str, Any]]]:
    from mkfa.readers.timm.module_graph import tags_of

    tags = tags_of(architecture)
    if tags and not layers_of(architecture):
        raise _no_depthwise(architecture)
    return architecture, tags


def _live_hub_tags(pattern: str) -> dict[str, list[dict[str, Any]]]:
    """Return the tags of the installed timm's matching architectures, which have to be built one by one."""
    from mkfa.readers.timm.module_graph import architectures, tags_of

    base = pattern.partition(".")[0]
    names = fnmatch.filter(architectures(), base)
    plain = set(_catalogue()["plain"])
    return {name: tags_of(name) for name in names if name not in plain and layers_of(name)}
