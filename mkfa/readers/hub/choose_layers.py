"""Which tensors of a hub file are the depthwise layers of a timm architecture, whatever their names.

In turn: the recorded graph; the installed timm's graph, where the file disagrees with the record; the names that
timm's own key filter of the family gives; the shape rule, with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mkfa.errors import MkfaError
from mkfa.readers.reading import GraphLayer, TensorInfo
from mkfa.readers.tensors.checkpoint import identify
from mkfa.readers.tensors.select import Selection, select
from mkfa.readers.timm import catalogue as timm_catalogue


def choose(
    infos: Mapping[str, TensorInfo], architecture: str, *, stem: str = "", given: bool = False, thing: str
) -> tuple[str, Selection]:
    """Choose the depthwise layers of a file; return the architecture ("" when not found out) with the choice.

    Parameters
    ----------
    infos : all tensors of the file.
    architecture : timm architecture, "" when it is not known.
    stem : name of the first convolution, without ".weight", of a one-channel network; "" for others.
    given : the user named the architecture, so that a file without its layers is refused.
    thing : what to name in an error.

    Raises
    ------
    SourceError
        `given`, and the file does not hold the architecture's layers.
    UnknownNameError
        `given`, and timm does not know the architecture.
    """
    if not architecture:
        return identify(infos, thing, stem=stem)
    try:
        layers, aliases = timm_catalogue.graph_of(architecture)
        graph = timm_catalogue.under_keys(layers, aliases, infos)
        rule = "catalogue" if timm_catalogue.is_recorded_version() else "graph"
        return architecture, select(infos, graph=graph, rule=rule, thing=thing)
    except MkfaError as error:
        other = _by_timm(infos, architecture, thing)
        if other is not None:
            return architecture, other
        if given:
            raise
        name, found = identify(infos, thing, stem=stem)
        note = f"the file is not timm's {architecture} ({error.problem}): its layers were found without"
        return name, replace(found, notes=(*found.notes, note))


def _by_timm(infos: Mapping[str, TensorInfo], architecture: str, thing: str) -> Selection | None:
    """Ask the installed timm: for its graph, then for its key filter; None when neither helps."""
    from mkfa.readers.timm.module_graph import module_graph, renamed_keys

    try:
        graph = module_graph(architecture)
        if timm_catalogue.is_recorded_version() and graph.layers != timm_catalogue.layers_of(architecture):
            return select(infos, graph=timm_catalogue.under_keys(graph.layers, graph.aliases, infos), thing=thing)
    except MkfaError:
        return None
    names = renamed_keys(architecture, {key: info.shape for key, info in infos.items()})
    renamed = tuple(replace(layer, key=names[layer.key]) for layer in graph.layers if layer.key in names)
    return _renamed(infos, renamed, thing) if len(renamed) == len(graph.layers) else None


def _renamed(infos: Mapping[str, TensorInfo], graph: tuple[GraphLayer, ...], thing: str) -> Selection | None:
    try:
        return select(infos, graph=graph, rule="renamed", thing=thing)
    except MkfaError:
        return None
