"""Graft: replace a trained network's filters by those of vocabularies, without training, and ask it about images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.array_types import F32, I64, BoolArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.library import Banks
from mkfa.errors import MkfaError
from mkfa.experiments.layer_numbers import parse_numbers
from mkfa.grafts.asking import Answers, Key, ask, calibrate, cost, share
from mkfa.grafts.estimates import FEWEST_DRAWS, NOTHING, Estimate, estimate
from mkfa.grafts.networks import find_network
from mkfa.grafts.pictures import Reader, find_pictures, network_labels
from mkfa.grafts.preprocessing import Changes, Transform
from mkfa.grafts.program import Program, build_program
from mkfa.grafts.replacing import Fit, fit_layer, usable_by_layer
from mkfa.grafts.result import KEPT, RENEWED, Graft, Point, ranges
from mkfa.grafts.vocabulary import Drawer, Vocabulary, controls_of, find_vocabularies
from mkfa.images.domain import Domain
from mkfa.progress import Progress, follow
from mkfa.readers.harvesting import harvest
from mkfa.similarity.lineage import find_lineage
from mkfa.training.device import Execution
from mkfa.words import counted

if TYPE_CHECKING:
    from torch import nn

CURVES = ("size", "layers", "similarity")
"""What can be varied: the number of filters; the layers (first n, each alone); the |cos| that a replacement needs."""
SIZES = (8, 32, 128, 512)
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
BATCH_NORM = ("both", KEPT, RENEWED)
ALL = 1 << 30
"""The size that means all filters of a vocabulary."""
_DECODERS = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """A point to compute, with one variant for each draw."""

    curve: str
    vocabulary: Vocabulary | None
    role: str
    size: int
    layers: tuple[int, ...]
    threshold: float
    keys: tuple[Key, ...]
    cosine: float
    replaced: float


@dataclass(slots=True)
class _Fillings:
    """What replaces the filters: numbers of vocabulary, size, draw and threshold, and the fit of each layer."""

    own: list[F32]
    usable: list[Any]
    kinds: list[Kind]
    drawer: Drawer
    numbers: dict[tuple[str, int, int, float], int] = field(default_factory=dict)
    fits: dict[tuple[str, int, int, int], Fit] = field(default_factory=dict)
    of_number: list[tuple[Vocabulary, int, int, float] | None] = field(default_factory=lambda: [None])

    def number(self, vocabulary: Vocabulary, size: int, *, draw: int, threshold: float = 0.0) -> int:
        key = vocabulary.name, size, draw, threshold
        if key not in self.numbers:
            self.numbers[key] = len(self.of_number)
            self.of_number.append((vocabulary, size, draw, threshold))
        return self.numbers[key]

    def fit(self, layer: int, vocabulary: Vocabulary, *, size: int, draw: int) -> Fit:
        key = vocabulary.name, size, draw, layer
        if key not in self.fits:
            filters = self.drawer.draw(vocabulary, self.kinds[layer], size, number=draw)
            self.fits[key] = fit_layer(self.own[layer], self.usable[layer], filters)
        return self.fits[key]

    def weight(self, layer: int, number: int) -> F32:
        filling = self.of_number[number]
        assert filling is not None
        vocabulary, size, draw, threshold = filling
        return self.fit(layer, vocabulary, size=size, draw=draw).weight(threshold)


def graft(  # noqa: PLR0913 (the options of the command line)
    network: str | Path | nn.Module,
    *,
    images: str | Path | Domain,
    vocabulary: Banks = "eight",
    weights: str | Path | None = None,
    sizes: Sequence[int | str] | str = SIZES,
    layers: Sequence[int] | str = "all",
    kernel_size: str | Kind | None = None,
    curves: Sequence[str] | str = "size",
    at: int | str = 64,
    thresholds: Sequence[float] = THRESHOLDS,
    keep: float = 0.9,
    count: int = 256,
    draws: int = 3,
    batch_norm: str = "both",
    size: int | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transform: Transform | None = None,
    labels: Mapping[str, int] | None = None,
    device: str = "auto",
    threads: int = 0,
    batch: int = 32,
    seed: int = 0,
    notify: Callable[[str], object] | None = None,
    progress: Progress = None,
) -> Graft:
    """Replace a trained network's depthwise filters by those of vocabularies and compare its answers.

    Each filter w of the chosen layers becomes a f + b: f is the vocabulary's filter of largest |cos| with w less its
    mean, a and b are the least-squares gain and offset. Nothing is trained. Dead and flat filters stay as they are.
    Each vocabulary has controls of the same size, see `mkfa.grafts.vocabulary.controls_of`.

    Parameters
    ----------
    network, weights : see `mkfa.grafts.networks.find_network`.
    images : folder, packed file or domain; see `mkfa.grafts.pictures.find_pictures`.
    vocabulary : one or several of: a bank (name, path or bank); "own"; "eight"; "basis" or "basis:wide"; "delta"; a
        null ("gaussian", "covariance:BANK"); each but "eight" and "delta" also as "keys:...". See
        `mkfa.grafts.vocabulary.find_vocabulary`.
    sizes : numbers of filters of each kernel size, K; "all" for all that a vocabulary has.
    layers : depthwise layers to replace, numbered from 1, in order of execution; "all", or numbers ("1..8").
    kernel_size : only layers of this kernel, such as "5x5". The others keep their filters.
    curves : of "size" (over K), "layers" (layers 1 to n, and each alone) and "similarity" (over |cos|).
    at : K of the curves over layers and similarity; "all" for all.
    thresholds : |cos| from which filters are replaced, for the curve over similarity.
    keep : share of answers to keep.
    count : images, chosen by `seed`.
    draws : number of draws of each random vocabulary, and of keys, whose clustering starts at random.
    batch_norm : "kept"; "re-estimated", on half of the images, while the other half is asked; or "both".
    size, crop_pct, interpolation, mean, std : instead of the network's own preprocessing; `mkfa.grafts.preprocessing`.
    transform : instead of all that: from an RGB image (Pillow) to (C, H, W) float32.
    labels : {name of a class of the images: index of the network's output}, to measure accuracy; None: found out.
    device, threads : as in `mkfa.training.device.Execution`.
    batch : images at a time.
    seed : of every random draw.
    notify : called with sentences before slow work.
    progress : see `mkfa.progress.Progress`; counts images through the network.

    Raises
    ------
    MkfaError
        The network has no depthwise layer, a vocabulary lacks a kernel size, images are too few, or an option is out of
        range; errors of `find_network`, `find_pictures` and `find_vocabulary`.

    Examples
    --------
    >>> import mkfa, torch
    >>> from torch import nn
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch...>
    >>> network = nn.Sequential(
    ...     nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 5, groups=16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...     nn.Linear(16, 4),
    ... )
    >>> result = mkfa.graft(network, images="emoji", vocabulary="own", sizes=[4, "all"], size=32, count=20)
    >>> [(point.size, round(point.agreement.mean, 2)) for point in result.curve("size", "own")][-1]
    (16, 1.0)
    """
    check_arguments(graft, locals())
    wanted = _curves(curves)
    _check(keep=keep, count=count, draws=draws, batch=batch, batch_norm=batch_norm, thresholds=thresholds)
    sizes = _sizes(sizes)
    (fixed_size,) = _sizes(at if isinstance(at, str) else [at], "--at")
    changes = Changes(size, crop_pct, interpolation, _floats(mean), _floats(std))
    resolved = Execution(device=device, threads=threads).resolved()
    notify = notify or (lambda _: None)
    _check_layers(layers, kernel_size)
    wanted_vocabularies = find_vocabularies(vocabulary)  # these and the images before weights are downloaded
    pictures = find_pictures(images)
    found = find_network(network, weights=weights, changes=changes, transform=transform)
    own = harvest(found.model, name=found.name, allow_nonfinite=True)
    chosen = _chosen(own, layers, kernel_size)
    asked = [one.of_network(own) for one in wanted_vocabularies]
    controls = controls_of(asked, own)
    roles = {v.name: "asked" for v in asked} | {v.name: "control" for v in controls}
    vocabularies = (*asked, *controls)
    _check_kinds(found.name, own, chosen, asked=asked)
    usable = usable_by_layer(own)
    notes = [*found.notes, *pictures.notes, *_notes_on(own, chosen, usable, asked=asked)]
    with resolved.in_force():
        reader = Reader(pictures, found.preprocessing.make(), threads=_DECODERS)
        rows = np.random.default_rng([seed, 1]).permutation(len(pictures))[:count]
        names = [own.layers[i].name.removesuffix(".weight") for i in chosen]
        example = _example(reader, rows, pictures.name)
        program = build_program(found.model, names, device=resolved.device, example=example)
        place = {name: i for i, name in zip(chosen, names, strict=True)}
        order = [place[name] for name in program.names]
        norms = _norms(batch_norm, program, found.name, notes)
        renewed = len(rows) // 2 if RENEWED in norms else 0
        if RENEWED in norms and renewed < 2:  # one image has no variance where feature maps are a single pixel
            problem = f"has {counted(len(rows), 'image')}, and batch statistics need half of them, at least two"
            raise MkfaError(pictures.name, problem, "give four images or more, or pass --batch-norm kept")
        fillings = _Fillings(
            [own.of_layer(i).weight for i in order],
            [usable[i] for i in order],
            [own.layers[i].kind for i in order],
            Drawer(seed),
        )
        settings = _settings(
            fillings,
            vocabularies,
            roles,
            numbers=[i + 1 for i in order],
            sizes=sizes,
            at=fixed_size,
            thresholds=thresholds,
            curves=wanted,
            draws=draws,
        )
        if draws < FEWEST_DRAWS:
            few = "One draw" if draws == 1 else "Two draws"
            notes.append(f"{few} of each vocabulary: intervals are over images, for these draws alone.")
        if not program.traced:
            notes.append(
                "The network could not be traced, so it is called as a whole for every variant, which is slower."
            )
        points, answers = _measure(
            program,
            fillings,
            settings,
            reader=reader,
            rows=rows,
            renewed=renewed,
            norms=norms,
            labels=network_labels(pictures, found.labels, _classes(program, example), given=labels),
            batch=batch,
            notes=notes,
            notify=notify,
            progress=progress,
            title=found.name,
        )
    if reader.damaged:
        row, why = next(iter(reader.damaged.items()))
        what = pictures.files[row] if pictures.files else f"image {row}"
        damaged = counted(len(reader.damaged), "image")
        notes.append(f"Left out {damaged} that could not be decoded, such as {what} ({why}).")
    own_right = answers.own_correct[np.isfinite(answers.own_correct)]
    return Graft(
        network=found.name,
        source=found.source,
        sha256=found.sha256,
        preprocessing=found.preprocessing.facts(),
        images=pictures.name,
        asked=len(answers.rows),
        calibrated=renewed,
        layers=tuple(_layer_row(own, i, usable[i]) for i in order),
        vocabularies=tuple(_vocabulary_row(v, roles[v.name], fillings.kinds) for v in vocabularies),
        keep=keep,
        points=points,
        seed=seed,
        draws=draws,
        own_accuracy=float(own_right.mean()) if len(own_right) else float("nan"),
        notes=tuple(notes),
    )


def _measure(  # noqa: PLR0913 (one call)
    program: Program,
    fillings: _Fillings,
    settings: Sequence[Setting],
    *,
    reader: Reader,
    rows: I64,
    renewed: int,
    norms: Sequence[str],
    labels: tuple[I64 | None, str],
    batch: int,
    notes: list[str],
    notify: Callable[[str], object],
    progress: Progress,
    title: str,
) -> tuple[tuple[Point, ...], Answers]:
    """Ask the network for every setting; return the points and the last answers."""
    keys = list(dict.fromkeys(key for setting in settings for key in setting.keys))
    index = {key: i for i, key in enumerate(keys)}
    known, said = labels
    notes.append(said)
    first, second = rows[:renewed].tolist(), rows[renewed:].tolist()
    work = cost(program, share(keys))
    total = work * (len(second) * len(norms) + (len(first) if RENEWED in norms else 0))
    notify(
        f"{counted(len(keys), 'variant')} of {title}, {counted(len(second), 'image')} asked"
        + (f", {len(first)} for batch statistics" if first else "")
        + f": as much work as {total:,.0f} images through the network."
    )
    points: list[Point] = []
    with follow(progress, f"graft {title}, images", total) as advance:
        for norm in norms:
            statistics = None
            if norm == RENEWED:
                batches = reader.batches(first, batch)
                statistics = calibrate(program, keys, fillings.weight, batches=batches, advance=advance)
            answers = ask(
                program,
                keys,
                fillings.weight,
                batches=reader.batches(second, batch),
                statistics=statistics,
                labels=known,
                advance=advance,
            )
            points += [_point(setting, norm, answers, [index[key] for key in setting.keys]) for setting in settings]
    return tuple(points), answers


def _point(setting: Setting, norm: str, answers: Answers, variants: Sequence[int]) -> Point:
    agree, kl, correlation, correct = (
        getattr(answers, name)[variants] for name in ("agree", "kl", "correlation", "correct")
    )
    right = answers.own_correct[np.isfinite(answers.own_correct)]
    accuracy: Estimate = estimate(correct, share=True) if len(right) else NOTHING
    return Point(
        curve=setting.curve,
        vocabulary=setting.vocabulary.name if setting.vocabulary else "",
        role=setting.role,
        size=setting.size,
        layers=setting.layers,
        threshold=setting.threshold,
        batch_norm=norm,
        draws=len(variants),
        images=len(answers.rows),
        agreement=estimate(agree, share=True),
        kl=estimate(kl),
        correlation=estimate(correlation),
        accuracy=accuracy,
        own_accuracy=float(right.mean()) if len(right) else float("nan"),
        cosine=setting.cosine,
        replaced=setting.replaced,
    )


def _settings(
    fillings: _Fillings,
    vocabularies: Sequence[Vocabulary],
    roles: Mapping[str, str],
    *,
    numbers: Sequence[int],
    sizes: Sequence[int],
    at: int,
    thresholds: Sequence[float],
    curves: Sequence[str],
    draws: int,
) -> list[Setting]:
    """Return all settings: the unchanged network, then the curves of each vocabulary."""
    count = len(numbers)
    own = Setting("unchanged", None, "unchanged", 0, (), 0.0, ((0,) * count,), 1.0, 0.0)
    out = [own]
    most = {v.name: max(v.size(kind) for kind in fillings.kinds) for v in vocabularies}
    asked = [v for v in vocabularies if roles[v.name] == "asked"]
    # controls have the sizes of the vocabularies, including those of sets of one size and of small banks
    ends = {most[v.name] for v in asked if v.pool != "delta" and (v.fixed or most[v.name] < max(sizes))}
    grid = sorted({*sizes, *ends})

    def add(curve: str, vocabulary: Vocabulary, size: int, where: Sequence[int], threshold: float = 0.0) -> None:
        largest = most[vocabulary.name]
        same = vocabulary.fixed or (size >= largest and vocabulary.pool != "null")
        keys, cosines, replaced, filters = [], [], 0, 0
        for draw in range(1 if same else draws):
            number = fillings.number(vocabulary, size, draw=draw, threshold=threshold)
            keys.append(tuple(number if i in where else 0 for i in range(count)))
            for i in where:
                fit = fillings.fit(i, vocabulary, size=size, draw=draw)
                taken = fit.replaced(threshold)
                cosines.append(fit.cosine[taken])
                replaced, filters = replaced + int(taken.sum()), filters + len(taken)
        every = np.concatenate(cosines)
        out.append(
            Setting(
                curve,
                vocabulary,
                roles[vocabulary.name],
                min(size, largest),
                tuple(numbers[i] for i in where),
                threshold,
                tuple(keys),
                float(every.mean()) if len(every) else float("nan"),
                replaced / max(filters, 1),
            )
        )

    for vocabulary in vocabularies:
        largest = most[vocabulary.name]
        if "size" in curves:
            capped = [largest] if vocabulary.fixed else sorted({min(size, largest) for size in grid})
            for size in capped:
                add("size", vocabulary, size, range(count))
        here = largest if vocabulary.fixed else min(at, largest)
        if "layers" in curves:
            for n in range(1, count + 1):
                add("first", vocabulary, here, range(n))
            for i in range(count):
                add("alone", vocabulary, here, (i,))
        if "similarity" in curves:
            for threshold in sorted({0.0, *thresholds}):
                add("similarity", vocabulary, here, range(count), threshold)
    return out


def _check_layers(layers: Sequence[int] | str, kernel_size: str | Kind | None) -> None:
    """Refuse layers and a kernel size that no network can have."""
    if isinstance(layers, str) and layers != "all":
        parse_numbers(layers, last=1)
    if kernel_size:
        Kind.parse(kernel_size)


def _chosen(own: FilterBank, layers: Sequence[int] | str, kernel_size: str | Kind | None) -> list[int]:
    """Return the layers to replace, as rows of the bank's table."""
    count = len(own.layers)
    text = layers if isinstance(layers, str) else ",".join(str(int(n)) for n in layers)
    numbers = parse_numbers("1..all" if text == "all" else text, last=count)
    if numbers[0] < 1 or numbers[-1] > count:
        raise MkfaError(f"--layers {text}", f"names layers that {own.name} does not have", f"choose from 1 to {count}")
    rows = [n - 1 for n in numbers]
    if kernel_size:
        kind = Kind.parse(kernel_size)
        rows = [i for i in rows if own.layers[i].kind == kind]
        if not rows:
            there = ", ".join(str(k) for k in own.kinds)
            raise MkfaError(f"--kernel-size {kind}", f"no chosen layer of {own.name} has it", f"choose from {there}")
    bad = [own.layers[i].name for i in rows if not np.isfinite(own.of_layer(i).weight).all()]
    if bad:
        raise MkfaError(own.name, f"has NaN or infinite weights in {bad[0]}", "graft a network with finite weights")
    return rows


def _check_kinds(name: str, own: FilterBank, chosen: Sequence[int], *, asked: Sequence[Vocabulary]) -> None:
    """Refuse a vocabulary without filters of a kernel size that is to be replaced: filters are never resampled."""
    kinds = list(dict.fromkeys(own.layers[i].kind for i in chosen))
    for vocabulary in asked:
        lacking = [kind for kind in kinds if not vocabulary.size(kind)]
        if not lacking:
            continue
        numbers = ranges([i + 1 for i in chosen if own.layers[i].kind == lacking[0]])
        there = [str(kind) for kind in kinds if kind not in lacking]
        other = f"choose layers with --kernel-size {there[0]}" if there else "name another vocabulary"
        problem = f"has no {lacking[0]} filters, which layers {numbers} of {name} have (none are resampled)"
        raise MkfaError(vocabulary.name, problem, other)


def _notes_on(
    own: FilterBank, chosen: Sequence[int], usable: Sequence[BoolArray], *, asked: Sequence[Vocabulary]
) -> Iterator[str]:
    """Yield sentences on what stays as it is, and on vocabularies that are relatives of the network."""
    left = len(own.layers) - len(chosen)
    if left:
        keep = "keeps its" if left == 1 else "keep their"
        yield f"{left} of {counted(len(own.layers), 'depthwise layer')} {keep} filters, as the options ask."
    dead = sum(int((~usable[i]).sum()) for i in chosen)
    if dead:
        filters = sum(len(usable[i]) for i in chosen)
        stay = "is dead or flat, and stays as it is" if dead == 1 else "are dead or flat, and stay as they are"
        yield f"{dead:,} of {counted(filters, 'filter')} {stay}."
    for vocabulary in asked:
        bank = vocabulary.bank if vocabulary.pool == "bank" else None
        if bank is not None and bank is not own and find_lineage(own, bank).found:
            yield f"{bank.name} and the network have a common parent, or are the same network."


def _example(reader: Reader, rows: I64, name: str) -> Any:
    """Return the first two images that can be decoded; refuses fewer."""
    for _, images in reader.batches(rows.tolist(), 2):
        if len(images) == 2:
            return images
    why = f" ({next(iter(reader.damaged.values()))})" if reader.damaged else ""
    raise MkfaError(name, f"has fewer than 2 images that can be decoded{why}", "give at least 2 images")


def _norms(batch_norm: str, program: Program, name: str, notes: list[str]) -> tuple[str, ...]:
    if not program.norms:
        if batch_norm == RENEWED:
            raise MkfaError(name, "has no batch normalisation to re-estimate", "leave --batch-norm out")
        notes.append("The network has no batch normalisation.")
        return (KEPT,)
    return (KEPT, RENEWED) if batch_norm == "both" else (batch_norm,)


def _classes(program: Program, example: Any) -> int:
    images = example.to(program.device)
    return int(program.run(images, [None] * len(program.names))[0].shape[1])


def _layer_row(own: FilterBank, i: int, usable: BoolArray) -> dict[str, Any]:
    layer, dead = own.layers[i], int((~usable).sum())
    return {"layer": i + 1, "name": layer.name, "kernel": str(layer.kind), "filters": layer.channels, "dead": dead}


def _vocabulary_row(vocabulary: Vocabulary, role: str, kinds: Sequence[Kind]) -> dict[str, Any]:
    sizes = {str(kind): vocabulary.size(kind) for kind in dict.fromkeys(kinds)}
    return {"name": vocabulary.name, "title": vocabulary.title, "role": role, "filters": sizes}


def _curves(curves: Sequence[str] | str) -> tuple[str, ...]:
    names = [part.strip() for part in curves.split(",")] if isinstance(curves, str) else list(curves)
    for name in names:
        if name not in CURVES:
            raise MkfaError(f"--curves {name}", "is not a curve", f"choose from {', '.join(CURVES)}")
    if not names:
        raise MkfaError("--curves", "is empty", f"choose from {', '.join(CURVES)}")
    return tuple(names)


def _sizes(sizes: Sequence[int | str] | str, option: str = "--sizes") -> tuple[int, ...]:
    parts = sizes.split(",") if isinstance(sizes, str) else [str(part) for part in sizes]
    text = [part.strip() for part in parts]
    numbers = [part for part in text if part != "all"]
    found = set(parse_numbers(",".join(numbers), option)) if numbers else set()
    if "all" in text:
        found.add(ALL)
    if not found or min(found) < 1:
        raise MkfaError(option, "is empty or has a number below 1", "give numbers of filters such as 8,64,all")
    return tuple(sorted(found))


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(v) for v in values)


def _check(*, keep: float, count: int, draws: int, batch: int, batch_norm: str, thresholds: Sequence[float]) -> None:
    if not 0 < keep <= 1:
        raise MkfaError("--keep", f"is {keep:g}", "give a share above 0 and up to 1")
    for name, value, least in (("count", count, 2), ("draws", draws, 1), ("batch", batch, 2)):
        if value < least:
            raise MkfaError(f"--{name}", f"is {value}", f"give at least {least}")
    if batch_norm not in BATCH_NORM:
        raise MkfaError(f"--batch-norm {batch_norm}", "is not known", f"choose from {', '.join(BATCH_NORM)}")
    if not all(0 <= t <= 1 for t in thresholds):
        raise MkfaError("--thresholds", "has a number outside 0 to 1", "give |cos| such as 0.8,0.9")
