"""The programme: each figure and table of the paper, and each further experiment of a claim, as a file of runs.

For each scale, a file says which verbs are asked for what; scales.toml gives the network, recipe and seeds.
Nothing here knows how a verb plans its runs (`mkfa.evidence.plans`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.frozen import FrozenDict

SCALES = ("laptop", "gpu", "paper")
"""Scales, the smallest first: bundled images of 32 px, small public data sets, the paper's own."""
UNLISTED = ("figure1", "figure2a", "figure3")
"""Figures of the paper whose numbers are not known here, so that runs cannot be compared with them."""
VERBS = ("train", "transfer", "transfer-curve", "transfer-matrix")


@dataclass(frozen=True, slots=True)
class ScaleFacts:
    """A scale: what it is in words, the options of the training verbs, the seeds, and what "pairs" stands for."""

    name: str
    title: str
    seeds: int
    options: Mapping[str, Any]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a verb is asked for.

    Attributes
    ----------
    verb : one of `VERBS`.
    pairs : (source, target) of a transfer or a curve, each asked for by itself.
    targets, sources : of a matrix, and the domains of "train".
    arms : by commas; of a matrix the arm off the diagonal.
    controls : of a matrix.
    layers : numbers of layers.
    networks : other networks of the sources.
    options : what differs from the scale's options.
    vary : the experiment is asked for once with each of these options.
    """

    verb: str
    pairs: tuple[tuple[str, str], ...] = ()
    targets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    arms: str = "transfer"
    controls: str = "random,delta"
    layers: str = "all"
    networks: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: FrozenDict({}))
    vary: tuple[Mapping[str, Any], ...] = (FrozenDict({}),)


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure, a table or a further experiment.

    Attributes
    ----------
    name : of its file, e.g. "figure4".
    title, question : e.g. "Figure 4", and what it answers.
    claims : ids that its runs judge.
    paper : what of the paper stands beside it: "depthwise" or "conv" curves, "Table 2" and so on; "" for nothing.
    runs : experiments by scale.
    """

    name: str
    title: str
    question: str
    claims: tuple[str, ...]
    paper: str
    runs: Mapping[str, tuple[Experiment, ...]]


@lru_cache(maxsize=1)
def scales() -> FrozenDict[str, ScaleFacts]:
    """Return the scales by name, the smallest first.

    Examples
    --------
    >>> [(scale.name, scale.seeds) for scale in scales().values()]
    [('laptop', 5), ('gpu', 5), ('paper', 5)]
    """
    content = tomllib.loads(files("mkfa.evidence").joinpath("scales.toml").read_text("utf-8"))
    made = {}
    for name in SCALES:
        entry = content[name]
        pairs = tuple((source, target) for source, target in entry["pairs"])
        made[name] = ScaleFacts(name, entry["title"], entry["seeds"], FrozenDict(entry["options"]), pairs)
    return FrozenDict(made)


@lru_cache(maxsize=1)
def programme() -> FrozenDict[str, Entry]:
    """Return the entries by name: figures, then tables, then further experiments.

    Examples
    --------
    >>> entry = programme()["figure4"]
    >>> entry.title, entry.claims, entry.runs["paper"][0].pairs
    ('Figure 4', ('C11',), (('food', 'pets'),))
    """
    folder = files("mkfa.evidence").joinpath("programme")
    found = {path.name.removesuffix(".toml"): path for path in folder.iterdir() if path.name.endswith(".toml")}
    order = sorted(found, key=lambda name: (not name.startswith("figure"), not name.startswith("table"), name))
    return FrozenDict({name: parse_entry(name, found[name].read_text("utf-8")) for name in order})


def find_entry(name: str) -> Entry:
    """Return an entry; "Figure 4", "fig4" and "figure4" are the same.

    Raises UnknownNameError: there is none of that name.
    """
    known = programme()
    short = name.lower().replace(" ", "").replace("fig.", "fig")
    for one in (short, short.replace("fig", "figure", 1), short.replace("tab", "table", 1)):
        if one in known:
            return known[one]
        if one in UNLISTED:
            raise MkfaError(name, "cannot be reproduced: its numbers are not known", "'mkfa reproduce' lists what can")
    raise UnknownNameError(name, "unknown figure or table", nearest(short, known) or f"choose from {', '.join(known)}")


def check_scale(scale: str, *, of: str = "", known: Sequence[str] = SCALES) -> None:
    """Refuse an unknown scale, or one at which something cannot be run.

    Raises MkfaError: as above.
    """
    if scale not in SCALES:
        raise MkfaError(f"--scale {scale}", "is not a scale", f"choose one of {', '.join(SCALES)}")
    if scale not in known:
        remedy = f"choose {' or '.join(known)}" if known else "it needs no runs"
        raise MkfaError(f"--scale {scale}", f"is not one at which {of} can be run", remedy)


def parse_entry(name: str, text: str) -> Entry:
    """Read an entry from TOML. Raises MkfaError if it lacks a field, or has an unknown one."""
    try:
        content = tomllib.loads(text)
        runs = content.pop("runs", {})
        if unknown := set(runs) - set(SCALES):
            raise ValueError(f"unknown scale {', '.join(sorted(unknown))}")
        made = {scale: tuple(_experiment(scale, one) for one in runs[scale]) for scale in SCALES if scale in runs}
        facts = {"claims": tuple(content.pop("claims", ())), "paper": content.pop("paper", "")}
        return Entry(name, runs=FrozenDict(made), **facts, **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MkfaError(f"{name}.toml", f"does not describe an experiment ({error})", "correct the file") from None


def _experiment(scale: str, entry: Mapping[str, Any]) -> Experiment:
    values = dict(entry)
    if unknown := set(values) - {f.name for f in fields(Experiment)}:
        raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
    if values["verb"] not in VERBS:
        raise ValueError(f"verb is {values['verb']!r}, not one of {', '.join(VERBS)}")
    if values.get("pairs") == "pairs":
        values["pairs"] = scales()[scale].pairs
    values["pairs"] = tuple((source, target) for source, target in values.get("pairs", ()))
    for key in ("targets", "sources", "networks"):
        values[key] = tuple(values.get(key, ()))
    values["options"] = FrozenDict(values.get("options", {}))
    values["vary"] = tuple(map(FrozenDict, values.get("vary", ({},))))
    return Experiment(**values)
