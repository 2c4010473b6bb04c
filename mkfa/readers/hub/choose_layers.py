"""Choose the tensors of a hub file that are the depthwise layers of a timm architecture.

Four ways are tried one after the other: the recorded graph; the graph of the installed timm; the names that timm's key
filter of the family gives; the shape rule, with a note.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from mkfa.errors import MkfaError
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.checkpoint import identify
from mkfa.readers.tensors.select import Context, Selection, select
from mkfa.readers.timm import catalogue as timm_catalogue


def choose(
    infos: Mapping[str, TensorInfo], architecture: str, *, stem: str = "", context: Context | None = None
) -> tuple[str, Selection]:
    """Choose the depthwise layers of a file; return the architecture ("" if unknown) with the choice.

    Parameters
    ----------
    architecture : timm architecture, "" if unknown.
    stem : name of the first convolution, without ".weight", of a one-channel network; "" for others.
    context : if its options name the architecture, a file without its layers is refused.

    Raises MkfaError: the user named the architecture, and the file does not have the architecture's layers, or timm
    does not know it.
    """
    if not architecture:
        return identify(infos, stem=stem, context=context)
    try:
        layers, aliases = timm_catalogue.graph_of(architecture)
        graph = timm_catalogue.under_keys(layers, aliases, infos)
        rule = "catalogue" if timm_catalogue.is_recorded_version() else "graph"
        return architecture, select(infos, graph=graph, rule=rule, context=context)
    except MkfaError as error:
        other = _by_timm(infos, architecture, context)
        if other is not None:
            return architecture, other
        if context is not None and context.options.architecture:
            raise
        name, selection = identify(infos, stem=stem, context=context)
        note = f"the file is not timm's {architecture} ({error.problem}): its layers were identified without it"
        return name, replace(selection, notes=(*selection.notes, note))


def _by_timm(infos: Mapping[str, TensorInfo], architecture: str, context: Context | None) -> Selection | None:
    """Choose by the installed timm's graph, else by its key filter; None if neither fits."""
    from mkfa.readers.timm.module_graph import module_graph, renamed_keys

    with contextlib.suppress(MkfaError):
        graph = module_graph(architecture)
        if timm_catalogue.is_recorded_version() and graph.layers != timm_catalogue.layers_of(architecture):
            known = timm_catalogue.under_keys(graph.layers, graph.aliases, infos)
            return select(infos, graph=known, context=context)
        names = renamed_keys(architecture, {key: info.shape for key, info in infos.items()})
        renamed = tuple(replace(layer, key=names[layer.key]) for layer in graph.layers if layer.key in names)
        if len(renamed) == len(graph.layers):
            return select(infos, graph=renamed, rule="renamed", context=context)
    return None
