"""A file of named tensors as a PyTorch state dict would have them: computed, transposed and renamed ones.

Tensors keep their names in the file; a computed one gets the name that it has in the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mkfa.array_types import F32
from mkfa.frozen import FrozenDict
from mkfa.readers.reading import TensorFile
from mkfa.readers.tensors.computed import computed
from mkfa.readers.tensors.layouts import doubtful_layers, transposed
from mkfa.readers.tensors.shadows import named_shadows
from mkfa.readers.tensors.view import Made, View

_AVERAGE = re.compile(r"(.+)\.ExponentialMovingAverage(?:_\d+)?")


def as_state_dict(file: TensorFile) -> View:
    """Return a file's view as a PyTorch state dict.

    Names with slashes get dots; lists of averaged weights get names; weights that pruning, weight norm or spectral norm
    keep in parts are computed; weights with channels last (MLX, Flax, TensorFlow) are transposed to (C, I, kh, kw).
    A file may state its layout in `metadata`, a mapping of texts ({"format": "mlx"}).
    """
    view, metadata = _renamed(file), getattr(file, "metadata", {})
    for step in (named_shadows, computed, transposed):
        if step is transposed:
            view = replace(view, doubtful=FrozenDict(doubtful_layers(view.tensors, metadata)))
        tensors, made, notes = step(view.tensors, metadata)
        composed = {key: _over(recipe, view.made) for key, recipe in made.items()}
        view = replace(
            view, tensors=FrozenDict(tensors), made=FrozenDict({**view.made, **composed}), notes=(*view.notes, *notes)
        )
    return view


def _renamed(file: TensorFile) -> View:
    """Return a view with the names of a state dict: dots for slashes, no ":0" of TensorFlow, no ".value" of Flax NNX.
    An average that TensorFlow keeps under the name of each weight becomes a network of its own.

    Slashes stay where some names have dots or most have no slash.
    """
    names = {key: key for key in file.tensors}
    slashed = [key for key in names if "/" in key]
    if 2 * len(slashed) > len(names) and not any("." in key for key in slashed):
        names = {key: key.removesuffix(":0").replace("/", ".") for key in names}
    names = {key: _AVERAGE.sub(r"ExponentialMovingAverage.\1", name) for key, name in names.items()}
    if all(name.endswith(".value") for name in names.values()):
        names = {key: name.removesuffix(".value") for key, name in names.items()}
    made = {name: Made((key,), _same) for key, name in names.items() if name != key}
    if not made or len(set(names.values())) < len(names):
        return View(file, file.tensors, FrozenDict({}))
    tensors = {names[key]: replace(info, key=names[key]) for key, info in file.tensors.items()}
    return View(file, FrozenDict(tensors), FrozenDict(made))


def _same(values: Sequence[F32]) -> F32:
    return values[0]


def _over(recipe: Made, made: Mapping[str, Made]) -> Made:
    """Return a recipe whose sources are the file's own, where they are computed themselves."""
    if not any(source in made for source in recipe.sources):
        return recipe
    inner = [made.get(source, Made((source,), _same)) for source in recipe.sources]
    sources = tuple(dict.fromkeys(source for each in inner for source in each.sources))

    def compute(values: Sequence[F32]) -> F32:
        known = dict(zip(sources, values, strict=True))
        return recipe.compute([each.compute([known[source] for source in each.sources]) for each in inner])

    return Made(sources, compute)
