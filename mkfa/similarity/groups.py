"""Compare groups of networks, with networks as the units: text against ImageNet, one family against another.

A comparison of two banks says something of two banks. That two *kinds* of networks differ can only be shown by several
of each: here banks, not filters or layers, are permuted.

- Banks are read one by one. Of each a quota of filters is kept, evenly over its layers and drawn once; nothing else
  stays in memory, so that a thousand banks can be compared.
- All banks give equally many filters, since most measures depend on their number.
- Distances between all pairs by the measures of `mkfa.compare`, per kernel size and dilation, in canonical form.
- PERMANOVA asks whether groups lie at different places, PERMDISP whether they scatter alike
  (`mkfa.stats.grouped_distances`); the smallest p that so few banks allow is always said.
- Banks with a common parent count once: those that look related by a cheap sign are read again and tested
  (`mkfa.similarity.lineage`).
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.array_types import F32, F64, I64
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.library import BankLike, Banks, load_bank, several_banks
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.progress import Progress, follow
from mkfa.similarity.group_comparison import GroupComparison, GroupKind, GroupMeasure, GroupMember, Quota
from mkfa.similarity.lineage import EXCESS, PERMUTATIONS, Lineage, families, family_of, find_lineage
from mkfa.similarity.measures.table import MEASURES, choose
from mkfa.similarity.pairs import Plan, Sample
from mkfa.similarity.samples import MIN_FILTERS, allocate, make_cloud
from mkfa.similarity.score import DIRECTIONS_SEED, make_plan, score
from mkfa.similarity.settings import BANDWIDTH, PRIMARY, make_settings
from mkfa.stats.grouped_distances import dispersion, permanova, principal_coordinates, variance_components
from mkfa.stats.p_values import holm, p_text
from mkfa.threads import one_thread
from mkfa.words import counted

Groups = Mapping[str, Banks]

MEASURES_OF_GROUPS = (PRIMARY[0], "energy", "frobenius")
"""Measures where none are named; the first is the primary one, chosen beforehand."""
LEAST = 4 * MIN_FILTERS
"""A bank with fewer usable filters of a kernel size is left out at that size: it would lower the quota of all."""
_BLOCK = 64
"""Banks that are scored against one at a time."""
_MARKS, _MARK_CHANNELS = 4, 64
"""Layers and channels of each bank that are kept to find those that look related."""
_SIGN = 3.5
"""Standard errors by which filters of the same channel are more alike than others in banks that look related."""


def read_groups(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the groups that a user named: "NAME=BANK,BANK", or a TOML file with lists of banks.

    A bank that is a folder stands for all banks (.h5) in it. Paths in a file are relative to it.

    Raises MkfaError: a text is neither, a file cannot be read, or a group is named twice or has no bank.

    Examples
    --------
    >>> read_groups(["text=ppocrv4_det,ppocrv4_rec", "imagenet=mobilenet_v2"])
    {'text': ['ppocrv4_det', 'ppocrv4_rec'], 'imagenet': ['mobilenet_v2']}
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, banks = text.partition("=")
        if equals and not Path(text).expanduser().is_file():
            found = {name.strip(): [bank.strip() for bank in banks.split(",") if bank.strip()]}
        else:
            found = _groups_of_file(Path(text).expanduser())
        for group, named in found.items():
            if group in groups:
                raise MkfaError(f"group {group}", "is named twice", "give each group a name of its own")
            members = [bank for entry in named for bank in _banks_of(entry)]
            if not group or not members:
                raise MkfaError(f"group {group or text}", "has no name or no bank", "write NAME=BANK,BANK")
            groups[group] = members
    return groups


def _groups_of_file(path: Path) -> dict[str, list[str]]:
    remedy = "write NAME=BANK,BANK, or name a TOML file with lines such as text = ['a.h5', 'b.h5']"
    if not path.is_file():
        raise MkfaError(f"group {path}", "is neither NAME=BANK,BANK nor a file", remedy)
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MkfaError(path, f"is not a TOML file ({error})", remedy) from None
    for name, banks in found.items():
        if not isinstance(banks, list) or not all(isinstance(bank, str) for bank in banks):
            raise MkfaError(path, f"has an entry '{name}' that is not a list of names", remedy)
    beside = {
        name: [str(p) if (p := path.parent / bank).exists() else bank for bank in banks]
        for name, banks in found.items()
    }
    return {str(name): banks for name, banks in beside.items()}


def _banks_of(entry: str) -> list[str]:
    folder = Path(entry).expanduser()
    if not folder.is_dir():
        return [entry]
    return [str(path) for path in sorted(folder.glob("*.h5"))]


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is kept of one kind of a bank: (m, K) float32 canonical filters in order of layers, and the layer of each.

    `usable` is the number of usable filters of the kind, `layers` that of layers with enough of them.
    """

    vector: F32
    layer: I64
    usable: int
    layers: int


@dataclass(frozen=True, slots=True)
class _Read:
    """A bank after it was read: its name, what was taken of each kind, and marks for finding relatives."""

    name: str
    taken: Mapping[Kind, _Taken]
    marks: Mapping[tuple[int, ...], F32]


def compare_groups(
    groups: Groups,
    *,
    measures: str | Sequence[str] | None = None,
    kernel_size: str | Sequence[Any] | None = None,
    draws: int = 999,
    permutations: int | None = None,
    sample: int = 192,
    seed: int = 0,
    progress: Progress = None,
) -> GroupComparison:
    """Compare groups of banks: do they differ by more than the banks of one group do?

    Parameters
    ----------
    groups : name of each group -> its banks, one or several, by name, path or bank. A bank may stand in one group only.
    measures : names in `mkfa.similarity.measures.table.MEASURES`, the primary one first. Default: coverage, energy,
        frobenius.
    kernel_size : sizes to compare. Default: all that banks of two groups have.
    draws : permutations of banks; where they can be divided in fewer ways, all of these are looked at.
    permutations : former name of `draws`.
    sample : filters taken from each bank, evenly over its layers; fewer where a bank has fewer.
    seed : of every random draw.
    progress : True for a bar, or a function of (done, total) banks.

    Raises
    ------
    MkfaError
        Fewer than two groups, a bank in two groups, or no kernel size that banks of two groups have.

    Examples
    --------
    >>> import mkfa
    >>> groups = {"text": ["ppocrv4_det", "ppocrv4_rec"], "imagenet": ["mobilenet_v2", "efficientnet_lite0"]}
    >>> found = mkfa.compare_groups(groups, kernel_size="3x3")
    >>> found.kinds[0].measures[0].value.shape, round(found.kinds[0].measures[0].between.least, 3)
    ((4, 4), 0.333)
    >>> print(found.in_words()[0][:87])
    At 3x3, with banks as units (2 of text, 2 of imagenet), no test can say anything at 5 %
    """
    check_arguments(compare_groups, locals())
    settings = make_settings(kernel_size=kernel_size, draws=draws, permutations=permutations, sample=sample, seed=seed)
    chosen = _measures(measures)
    if not isinstance(groups, Mapping):
        raise MkfaError(
            "groups", f"is a {type(groups).__name__}", "map the name of each group to its banks: {'text': [...], ...}"
        )
    named = [(group, bank) for group, banks in groups.items() for bank in several_banks(banks)]
    _check(groups, named)
    read: list[_Read] = []
    left_out: list[str] = []
    with follow(progress, "banks", len(named)) as advance, one_thread():
        for _, bank in named:
            read.append(_read(load_bank(bank), settings.sample, settings.kernels, seed))
            advance(1)
        names = _distinct([r.name for r in read])
        parents = _find_parents([bank for _, bank in named], read, seed)
        family = family_of(len(read), list(parents.found))
        members = [
            GroupMember(name, group, family[i] == i, names[family[i]] if family.count(family[i]) > 1 else "")
            for i, (name, (group, _)) in enumerate(zip(names, named, strict=True))
        ]
        kinds = []
        for kind in _shared_kinds(read, members):
            found = _compare_kind(kind, read, members, chosen, settings.permutations, seed, left_out)
            if found is not None:
                kinds.append(found)
    if not kinds:
        raise MkfaError(
            "groups", f"share no kernel size with {LEAST} usable filters in banks of two groups", "choose other banks"
        )
    relatives = families(names, list(parents.found))
    return GroupComparison(
        groups=FrozenDict({group: tuple(m.name for m in members if m.group == group) for group in groups}),
        kinds=tuple(_adjusted(kinds)),
        families=relatives,
        left_out=tuple(left_out),
        notes=tuple(_notes(relatives, members, parents, seed)),
        permutations=settings.permutations,
        sample=sample,
        seed=seed,
    )


def _measures(measures: str | Sequence[str] | None) -> tuple[str, ...]:
    if measures is None:
        return MEASURES_OF_GROUPS
    named = [m.strip() for m in measures.split(",")] if isinstance(measures, str) else list(measures)
    if not named:
        raise MkfaError("measures", "names nothing", "name one or several, or leave the option out")
    known = choose(tuple(named))
    for name in known:
        if MEASURES.find(name).whole is not None:
            raise MkfaError(name, "depends on the number of filters, which groups cannot allow for", "leave it out")
    return tuple(sorted(known, key=lambda name: named.index(name) if name in named else len(named)))


def _check(groups: Groups, named: Sequence[tuple[str, BankLike]]) -> None:
    if len(groups) < 2:
        raise MkfaError("groups", f"are {len(groups)}", "name two groups or more")
    seen: dict[str, str] = {}
    for group, bank in named:
        key = bank.name if isinstance(bank, FilterBank) else str(bank)
        if not isinstance(bank, FilterBank) and key in seen:
            where = f"stands in {seen[key]} and in {group}" if seen[key] != group else f"stands twice in {group}"
            raise MkfaError(key, where, "name each bank once")
        seen[key] = group


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with a number where one occurs again."""
    out: list[str] = []
    for name in names:
        count = 1 + sum(other == name or other.startswith(f"{name} (") for other in out)
        out.append(name if name not in out else f"{name} ({count})")
    return out


def _read(bank: FilterBank, sample: int, sizes: Sequence[tuple[int, int]], seed: int) -> _Read:
    """Take twice `sample` filters of each kind, evenly over layers, in random order within a layer.

    What is drawn depends on the seed and the bank's name, and not on what it is compared with.
    """
    rng = np.random.default_rng([seed, zlib.crc32(bank.name.encode())])
    taken = {}
    for kind in bank.kinds:
        if sizes and (kind.kh, kind.kw) not in sizes:
            continue
        cloud = make_cloud(bank, kind)
        if len(cloud) < LEAST:
            continue
        counts = np.bincount(cloud.layer, minlength=len(cloud.layers))
        share = allocate(min(2 * sample, len(cloud)), counts)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        rows = np.concatenate([bounds[i] + rng.permutation(counts[i])[:n] for i, n in enumerate(share)])
        taken[kind] = _Taken(cloud.vector[rows].copy(), cloud.layer[rows].copy(), len(cloud), len(cloud.layers))
    return _Read(bank.name, taken, _marks(bank))


def _marks(bank: FilterBank) -> dict[tuple[int, ...], F32]:
    """Return filters of fixed channels of some layers, by shape and place among layers of that shape: (C, K) each."""
    places: dict[tuple[int, int, int], int] = {}
    of_layer: list[tuple[int, ...]] = []
    for layer in bank.layers:
        shape = layer.kh, layer.kw, layer.channels
        places[shape] = places.get(shape, -1) + 1
        of_layer.append((*shape, places[shape]))
    large = [i for i, layer in enumerate(bank.layers) if layer.channels >= 8]
    chosen = [large[i] for i in np.unique(np.linspace(0, len(large) - 1, _MARKS).astype(int))] if large else []
    out = {}
    for i in chosen:
        weight = bank.of_layer(i).weight.reshape(bank.layers[i].channels, -1)
        channel = np.linspace(0, len(weight) - 1, min(len(weight), _MARK_CHANNELS)).astype(int)
        vector = weight[channel] - weight[channel].mean(axis=1, keepdims=True)
        norm = np.linalg.norm(vector, axis=1, keepdims=True)
        out[of_layer[i]] = np.divide(vector, norm, out=np.zeros_like(vector), where=norm > 1e-12)
    return out


@dataclass(frozen=True, slots=True)
class _Parents:
    """Which pairs of banks, by rows, have a common parent, and what was looked at in the others.

    `unlike` has the mean |cos| of filters of the same channel and of other channels in each pair without a parent,
    `tested` those of them that were tested, and `untold` is the number of pairs that share no layer among those kept.
    """

    found: Mapping[tuple[int, int], Lineage]
    unlike: Sequence[tuple[float, float]]
    tested: Sequence[Lineage]
    untold: int


def _find_parents(banks: Sequence[BankLike], read: Sequence[_Read], seed: int) -> _Parents:
    """Find the pairs of rows with a common parent.

    Where filters of the same channel are no more alike than those of other channels, there is none; other pairs are
    read again and tested. Banks without a layer of equal shape and place among those kept are not looked at.
    """
    found: dict[tuple[int, int], Lineage] = {}
    unlike: list[tuple[float, float]] = []
    tested: list[Lineage] = []
    untold = 0
    for i, j in combinations(range(len(read)), 2):
        shared = read[i].marks.keys() & read[j].marks.keys()
        if not shared:
            untold += 1
            continue
        cosine = [np.abs(read[i].marks[key] @ read[j].marks[key].T) for key in shared]
        same = np.concatenate([np.diag(c) for c in cosine])
        other = np.concatenate([c[~np.eye(len(c), dtype=bool)] for c in cosine])
        excess, error = float(same.mean() - other.mean()), float(other.std()) / np.sqrt(len(same))
        if excess > EXCESS * (1 - float(other.mean())) and excess > _SIGN * error:
            lineage = find_lineage(load_bank(banks[i]), load_bank(banks[j]), seed=seed)
            if lineage.found:
                found[i, j] = lineage
                continue
            tested.append(lineage)
        unlike.append((float(same.mean()), float(other.mean())))
    return _Parents(found, unlike, tested, untold)


def _shared_kinds(read: Sequence[_Read], members: Sequence[GroupMember]) -> list[Kind]:
    """Return the kinds that counted banks of two groups have, that of most banks first."""
    banks: dict[Kind, int] = {}
    groups: dict[Kind, set[str]] = {}
    for bank, member in zip(read, members, strict=True):
        for kind in bank.taken if member.counted else ():
            banks[kind] = banks.get(kind, 0) + 1
            groups.setdefault(kind, set()).add(member.group)
    return sorted((k for k in banks if len(groups[k]) > 1), key=lambda k: (-banks[k], k))


def _compare_kind(
    kind: Kind,
    read: Sequence[_Read],
    members: Sequence[GroupMember],
    measures: tuple[str, ...],
    permutations: int,
    seed: int,
    left_out: list[str],
) -> GroupKind | None:
    rows = [i for i, bank in enumerate(read) if kind in bank.taken]
    without = [members[i].name for i in range(len(read)) if i not in rows]
    if without:
        some = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
        left_out.append(f"{kind}: {some} left out, with fewer than {LEAST} usable filters of this size")
    taken = [read[i].taken[kind] for i in rows]
    own = tuple(members[i] for i in rows)
    n = min(len(t.vector) for t in taken) // 2  # two disjoint samples of each bank
    halves = [_two_samples(t, n) for t in taken]
    plan = make_plan(
        (kind.kh, kind.kw), measures, threshold=0.9, bandwidth=BANDWIDTH, rng=np.random.default_rng(DIRECTIONS_SEED)
    )
    first = np.stack([t.vector[one] for t, (one, _) in zip(taken, halves, strict=True)])
    second = np.stack([t.vector[two] for t, (_, two) in zip(taken, halves, strict=True)])
    values = _all_pairs(first, second, plan)
    counted = np.flatnonzero([m.counted for m in own])
    labels = [list(dict.fromkeys(m.group for m in own)).index(own[i].group) for i in counted]
    made = [
        _measure(name, values[:, :, m], own, counted, labels, permutations, seed) for m, name in enumerate(measures)
    ]
    quotas = tuple(Quota(own[i].name, t.usable, n, t.layers) for i, t in enumerate(taken))
    return GroupKind(str(kind), own, n, quotas, tuple(made))


def _two_samples(taken: _Taken, n: int) -> tuple[I64, I64]:
    """Return the rows of two disjoint samples of n filters, each evenly over the layers.

    Filters lie in order of layers and at random within each, so that every other one is a sample.
    """
    row = np.linspace(0, len(taken.layer) // 2 - 1, n).round().astype(np.int64)
    return 2 * row, 2 * row + 1


def _all_pairs(first: F32, second: F32, plan: Plan) -> F64:
    """Return all measures of all pairs of banks, (N, N, M); on the diagonal those of a bank's two samples.

    Parameters
    ----------
    first, second : (N, n, K) float32, two disjoint samples of each bank.
    """
    total, n = first.shape[:2]
    nothing = np.zeros(n, np.int64)
    out = np.empty((total, total, len(plan.measures)))
    for i in range(total):
        a = Sample(first[i : i + 1], nothing, 1, plan)
        out[i, i] = score(a, Sample(second[i : i + 1], nothing, 1, plan)).values[0]
        for start in range(i + 1, total, _BLOCK):
            b = Sample(first[start : start + _BLOCK], nothing, 1, plan)
            out[i, start : start + _BLOCK] = score(a, b).values
    low = np.tril_indices(total, -1)
    out[low] = out.transpose(1, 0, 2)[low]
    return out


def _measure(
    name: str,
    value: F64,
    members: Sequence[GroupMember],
    counted: np.ndarray[tuple[int, ...], np.dtype[np.intp]],
    labels: Sequence[int],
    permutations: int,
    seed: int,
) -> GroupMeasure:
    squared = _squared(name, value)
    halves = np.diag(squared).copy()
    np.fill_diagonal(squared, 0.0)
    tested = squared[np.ix_(counted, counted)]
    groups = list(dict.fromkeys(m.group for m in members))
    place, share = principal_coordinates(squared)
    options: dict[str, Any] = {"permutations": permutations, "seed": seed}
    pairs = []
    if len(groups) > 2:
        for a, b in combinations(range(len(groups)), 2):
            some = [i for i, g in enumerate(labels) if g in (a, b)]
            test = permanova(tested[np.ix_(some, some)], [labels[i] for i in some], **options)
            pairs.append((groups[a], groups[b], test))
    adjusted = holm([test.p for *_, test in pairs]).tolist()
    return GroupMeasure(
        measure=name,
        value=value,
        squared=squared,
        place=place,
        map_share=share,
        between=permanova(tested, labels, **options),
        p_holm=float("nan"),
        dispersion=dispersion(tested, labels, **options),
        pairs=tuple((a, b, test, p) for (a, b, test), p in zip(pairs, adjusted, strict=True)),
        parts=variance_components(tested, labels, halves=halves[counted]),
    )


def _squared(name: str, value: F64) -> F64:
    measure = MEASURES.find(name)
    if measure.squared:
        return value.copy()
    return np.asarray((1 - value) ** 2 if measure.alike_is_more else value**2)


def _adjusted(kinds: Sequence[GroupKind]) -> Iterator[GroupKind]:
    """Yield the kinds with the p of each measure adjusted over kernel sizes by Holm."""
    for number, kind in enumerate(kinds):
        measures = []
        for at, measure in enumerate(kind.measures):
            p = holm([other.measures[at].between.p for other in kinds])
            measures.append(replace(measure, p_holm=float(p[number])))
        yield replace(kind, measures=tuple(measures))


def _notes(
    relatives: Sequence[tuple[str, ...]], members: Sequence[GroupMember], parents: _Parents, seed: int
) -> Iterator[str]:
    """Yield what the search for common parents says: each family, pairs without a parent, pairs that share no layer."""
    group = {m.name: m.group for m in members}
    for family in relatives:
        rows = [i for i, m in enumerate(members) if m.name in family]
        tests = [test for pair, test in parents.found.items() if set(pair) <= set(rows)]
        same, other = _span([t.cosine for t in tests]), _span([t.permuted for t in tests])
        text = (
            f"{', '.join(family)}: one parent, so that {family[0]} counts for them: filters of the same channel have "
            f"mean |cos| {same}, with channels permuted {other} "
            f"(p <= {p_text(max(t.p for t in tests))}, {counted(tests[0].m, 'permutation')}, seed {seed})"
        )
        across = dict.fromkeys(group[name] for name in family)
        yield text + (f"; they stand in {' and '.join(across)}" if len(across) > 1 else "")
    pairs = counted(len(members) * (len(members) - 1) // 2, "pair")
    if parents.unlike:
        same, other = (_span(values) for values in zip(*parents.unlike, strict=True))
        tested = ""
        if parents.tested:
            p = p_text(min(t.p for t in parents.tested))
            how = f"{counted(PERMUTATIONS, 'permutation')}, seed {seed}"
            tested = f"; {len(parents.tested)} of them, less clear, p >= {p} ({how})"
        yield (
            f"No common parent was found in {len(parents.unlike)} of {pairs} of banks: in up to {_MARKS} layers "
            f"of each, filters of the same channel have mean |cos| {same}, those of other channels {other}{tested}"
        )
    if parents.untold:
        yield (
            f"Whether banks have a common parent cannot be told in {parents.untold} of {pairs}: none of the "
            f"{_MARKS} layers that are kept of each has the same shape and place in both"
        )


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
