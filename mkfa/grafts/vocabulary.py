"""Vocabularies: sets of filters that a network's own are replaced by.

A vocabulary is a pool of filters of one kernel size, and a way to choose K of them: at random (several draws, each a
longer piece of the same order), or as the K keys of the pool (the centres of its clusters modulo sign). Every filter is
in canonical form: zero mean, unit norm.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mkfa.array_types import F32
from mkfa.banks.bank import FilterBank, Kind, Provenance
from mkfa.banks.canonical import normalise
from mkfa.banks.library import BankLike, Banks, load_bank
from mkfa.banks.usable import usable_filters
from mkfa.clusters.lines import cluster_lines
from mkfa.errors import MkfaError, UnknownBankError
from mkfa.nulls.draws import NULLS
from mkfa.patterns.dictionary import dictionary
from mkfa.several import as_several

OWN = "own"
"""The network's own filters."""
DELTA = "delta"
"""One filter: the identity, which mixes no pixels."""
EIGHT = "eight"
"""Models of the eight published keys."""
BASES = {"basis": "families", "basis:families": "families", "basis:wide": "wide"}
KEYS = "keys:"
CONTROLS = ("gaussian", "shuffled", "blurred", "covariance")
"""Nulls shown beside every vocabulary, with as many filters, chosen in the same way."""
_RESTARTS = 2
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Where replacing filters come from.

    Attributes
    ----------
    name : as it is asked for, such as "efficientnet_lite0", "keys:own" or "covariance:ppocrv4_rec".
    title : in words.
    pool : "bank", "null", "basis", "set" or "delta".
    keys : whether the K filters are keys of the pool, instead of chosen at random.
    bank : the bank, or the bank that a null imitates.
    of : name of the null or the basis.
    """

    name: str
    title: str
    pool: str
    keys: bool = False
    bank: FilterBank | None = None
    of: str = ""

    @property
    def fixed(self) -> bool:
        """True for a set with one size, whatever K is asked for."""
        return self.pool in ("set", "delta")

    def of_network(self, own: FilterBank) -> Vocabulary:
        """Return the vocabulary with the network's own filters, where it stands for those."""
        return replace(self, bank=own) if self.bank is NETWORK else self

    def size(self, kind: Kind) -> int:
        """Return the number of filters of a kind that there are to choose from, 0 if it has none of that size."""
        if self.pool == "delta":
            return 1
        if self.pool in ("set", "basis"):
            return len(dictionary(EIGHT if self.pool == "set" else self.of, kind.kh, kind.kw).atoms)
        assert self.bank is not None
        return len(usable_filters(self.bank, kind))


NETWORK = FilterBank("network", (), {}, Provenance())
"""Stands for the filters of a network that is not read yet."""


def find_vocabularies(named: Banks) -> list[Vocabulary]:
    """Return the vocabularies of names, each once, before the network is read; `Vocabulary.of_network` completes them.

    Raises MkfaError: none is named; or as `find_vocabulary`.

    Examples
    --------
    >>> [vocabulary.name for vocabulary in find_vocabularies(["own", "eight", "own", "covariance"])]
    ['own', 'eight', 'covariance:own']
    """
    found = list({v.name: v for v in (find_vocabulary(bank, NETWORK) for bank in as_several(named))}.values())
    if not found:
        raise MkfaError("--vocabulary", "is empty", "name a bank, or one of own, eight, basis")
    return found


def find_vocabulary(text: BankLike, own: FilterBank) -> Vocabulary:
    """Return the vocabulary of a name, a path or a bank.

    Parameters
    ----------
    text : str, Path or FilterBank
        A bank; "own", the network's filters; "eight", models of the published keys; "basis" or "basis:wide", analytic
        patterns; "delta"; a null such as "gaussian" or "covariance:BANK", of the network's own filters unless a bank is
        named. "keys:" before any of these, such as "keys:BANK", takes its keys instead of filters at random.
    own : the network's filters.

    Raises UnknownNameError: nothing has that name. Raises MkfaError: keys were asked of a set that has one size.

    Examples
    --------
    >>> import mkfa
    >>> own = mkfa.load_bank("mobilenet_v2")
    >>> find_vocabulary("keys:ppocrv4_rec", own).title
    "keys of ppocrv4_rec's filters"
    >>> find_vocabulary("covariance:ppocrv4_rec", own).title
    'covariance null of ppocrv4_rec'
    """
    if isinstance(text, FilterBank):
        return _of_bank(text, text.name)
    name = str(text)
    if name.startswith(KEYS):
        inner = find_vocabulary(name.removeprefix(KEYS), own)
        if inner.fixed or inner.keys:
            raise MkfaError(name, f"asks for keys of {inner.name}, which has one size", f"name {inner.name} alone")
        return with_keys(inner)
    if name == OWN:
        return Vocabulary(OWN, "the network's own filters", "bank", bank=own)
    if name == EIGHT:
        return Vocabulary(EIGHT, "the eight published keys (models)", "set", of=EIGHT)
    if name == DELTA:
        return Vocabulary(DELTA, "the identity alone", "delta")
    if name in BASES:
        return Vocabulary(name, f"analytic patterns ({BASES[name]})", "basis", of=BASES[name])
    null, _, bank = name.partition(":")
    if null in NULLS:
        return null_of(null, own if bank in ("", OWN) else load_bank(bank), own)
    try:
        return _of_bank(load_bank(name), name)
    except UnknownBankError as error:
        known = ", ".join((OWN, EIGHT, "basis", DELTA, *NULLS))
        raise UnknownBankError(name, f"{error.remedy}; or one of {known}, or keys:BANK") from error


def _of_bank(bank: FilterBank, name: str) -> Vocabulary:
    return Vocabulary(bank.name if bank.name in name else name, f"{bank.name}'s filters", "bank", bank=bank)


def null_of(null: str, bank: FilterBank, own: FilterBank) -> Vocabulary:
    """Return a null of a bank as a vocabulary; those that look at no bank have its number of filters."""
    if null == "gaussian":
        return Vocabulary(null, "white noise", "null", bank=bank, of=null)
    if null == "blurred":
        return Vocabulary(null, "blurred noise", "null", bank=bank, of=null)
    whose = OWN if bank is own else bank.name
    title = "the network's own filters" if bank is own else bank.name
    return Vocabulary(f"{null}:{whose}", f"{null} null of {title}", "null", bank=bank, of=null)


def with_keys(vocabulary: Vocabulary) -> Vocabulary:
    """Return the vocabulary of the keys of a pool."""
    return Vocabulary(
        KEYS + vocabulary.name, f"keys of {vocabulary.title}", vocabulary.pool, True, vocabulary.bank, vocabulary.of
    )


def controls_of(asked: Sequence[Vocabulary], own: FilterBank) -> tuple[Vocabulary, ...]:
    """Return the controls of vocabularies, without those that were asked for.

    For each vocabulary: the nulls in `CONTROLS`, of its bank (of the network's own filters if it has none), chosen in
    the same way; and once, the network's own keys and the identity.
    """
    out: dict[str, Vocabulary] = {}
    for vocabulary in asked:
        if vocabulary.pool in ("null", "delta"):
            continue
        bank = vocabulary.bank or own
        for null in CONTROLS:
            control = null_of(null, bank, own)
            control = with_keys(control) if vocabulary.keys else control
            there = out.setdefault(control.name, control)
            if there.bank is not None and len(there.bank) < len(bank):
                out[control.name] = control  # noise imitates no bank: take as many filters as the largest has
    keys = with_keys(find_vocabulary(OWN, own))
    for control in (keys, find_vocabulary(DELTA, own)):
        out[control.name] = control
    names = {vocabulary.name for vocabulary in asked}
    return tuple(control for control in out.values() if control.name not in names)


@dataclass(slots=True)
class Drawer:
    """Draws filters of vocabularies; every draw comes from the seed, the vocabulary, the kind and its number."""

    seed: int
    _pools: dict[Any, F32] = field(default_factory=dict)

    def draw(self, vocabulary: Vocabulary, kind: Kind, size: int, *, number: int = 0) -> F32:
        """Return up to `size` filters of a kind, (n, taps) float32, zero mean and unit norm.

        Random choices of one number are nested: the smaller is the beginning of the larger.
        """
        if vocabulary.pool == "delta":
            return _delta(kind)
        pool = self._pool(vocabulary, kind, number)
        if vocabulary.fixed or size >= len(pool):
            return pool
        if not vocabulary.keys:
            return pool[:size]
        seed = int(self._rng(vocabulary, kind, number, size).integers(2**31))
        return cluster_lines(pool, size, seed=seed, restarts=_RESTARTS, tolerance=_TOLERANCE).prototype

    def _rng(self, vocabulary: Vocabulary, kind: Kind, number: int, size: int = 0) -> np.random.Generator:
        stream = zlib.crc32(f"{vocabulary.name.removeprefix(KEYS)} {kind}".encode())
        return np.random.default_rng([self.seed, stream, number, size])

    def _pool(self, vocabulary: Vocabulary, kind: Kind, number: int) -> F32:
        drawn = 0 if vocabulary.fixed else number
        key = vocabulary.name.removeprefix(KEYS), kind, drawn, vocabulary.size(kind)
        if key not in self._pools:
            rng = self._rng(vocabulary, kind, drawn)
            self._pools[key] = _filters(vocabulary, kind, rng)
        return self._pools[key]


def _filters(vocabulary: Vocabulary, kind: Kind, rng: np.random.Generator) -> F32:
    """Return all filters of a pool in random order."""
    if vocabulary.pool == "set":
        return dictionary(EIGHT, kind.kh, kind.kw).atoms
    if vocabulary.pool == "basis":
        atoms = dictionary(vocabulary.of, kind.kh, kind.kw).atoms
        return atoms[rng.permutation(len(atoms))]
    assert vocabulary.bank is not None
    bank = vocabulary.bank
    if vocabulary.pool == "bank":
        vector = usable_filters(bank, kind).vector
    else:
        null = NULLS.find(vocabulary.of)
        if null.network is not None:
            vector = usable_filters(null.network(bank, int(rng.integers(2**31))), kind).vector
        else:
            usable = usable_filters(bank, kind)
            drawn = null.sample(usable.weight, rng, layer=usable.layer.astype(np.int64))
            rows, _, _, flat, nonfinite = normalise(drawn.reshape(len(drawn), -1))
            vector = rows[~(flat | nonfinite)]
    return vector[rng.permutation(len(vector))]


def _delta(kind: Kind) -> F32:
    """Return the identity kernel in canonical form; in an even kernel its tap is right of and below the centre."""
    pattern = np.zeros((1, kind.kh, kind.kw), np.float32)
    pattern[0, kind.kh // 2, kind.kw // 2] = 1
    return normalise(pattern.reshape(1, -1))[0]
