"""`mkfa graft`: other filters in a trained network, without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.options import NETWORK, RUNNING, Seed, option
from mkfa.cli.shared.outputs import Output
from mkfa.cli.shared.printing import print_table, say, warn, words
from mkfa.cli.shared.progress import shown
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.grafts.estimates import Estimate
    from mkfa.grafts.result import Graft, Point

IMAGES = {"rich_help_panel": "Images"}


@dataclass(frozen=True)
class ImageOptions:
    """Which images, and how they are prepared."""

    count: Annotated[int, option("--count", "N", "Number of images, chosen by --seed.", min=2, **IMAGES)] = 256
    size: Annotated[
        int | None, option("--size", "N", "Side of the images in pixels, instead of the network's own.", **IMAGES)
    ] = None
    crop_pct: Annotated[
        float | None, option("--crop-pct", "X", "Share of the scaled image's shorter side that is cut out.", **IMAGES)
    ] = None
    interpolation: Annotated[
        str | None, option("--interpolation", "NAME", "bilinear, bicubic or nearest.", **IMAGES)
    ] = None
    mean: Annotated[
        str | None, option("--mean", "R,G,B", "Mean of each channel, in units of full scale.", **IMAGES)
    ] = None
    std: Annotated[str | None, option("--std", "R,G,B", "Standard deviation of each channel.", **IMAGES)] = None


def graft(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="timm or torchvision name ('torchvision:NAME' if both have it).")
    ],
    images: Annotated[
        str,
        option("--images", "FOLDER", "Folder of images, at any depth; a packed file; or a domain's name.", **IMAGES),
    ],
    vocabulary: Annotated[
        str,
        option(
            "--vocabulary",
            "NAMES",
            "Where filters come from, by commas: a bank; own, the network's; eight, the published keys (models); basis "
            "or basis:wide, analytic patterns; delta; a null, such as covariance:BANK. keys:NAME takes the keys of any "
            "of these instead of filters at random.",
        ),
    ] = "eight",
    weights: Annotated[
        Path | None,
        option(
            "--weights", "FILE", "Checkpoint with its weights; default: the published ones (downloaded).", **NETWORK
        ),
    ] = None,
    sizes: Annotated[
        str, option("--sizes", "NUMBERS", "Filters of each kernel size to choose from; 'all' for all there are.")
    ] = "8,32,128,512",
    layers: Annotated[str, option("--layers", "NUMBERS", "Depthwise layers to replace, such as 1..8.")] = "all",
    kernel_size: Annotated[
        str, option("--kernel-size", "5x5", "Replace only layers of this kernel size; others keep their filters.")
    ] = "",
    curves: Annotated[
        str,
        option(
            "--curves",
            "NAMES",
            "size: over the number of filters; layers: layers 1 to n, and each alone; similarity: over the |cos| that "
            "a replacement needs.",
        ),
    ] = "size",
    at: Annotated[str, option("--at", "N", "Filters in the curves over layers and similarity; or 'all'.")] = "64",
    thresholds: Annotated[
        str, option("--thresholds", "NUMBERS", "|cos| of the curve over similarity.")
    ] = "0.5,0.7,0.8,0.9,0.95,0.99",
    keep: Annotated[
        float,
        option("--keep", "X", "Share of answers to keep, for the sentence that says how many filters this takes."),
    ] = 0.9,
    draws: Annotated[int, option("--draws", "N", "Draws of each vocabulary that is chosen at random.", min=1)] = 3,
    batch_norm: Annotated[
        str,
        option("--batch-norm", "HOW", "kept; re-estimated, on half of the images, which are not asked about; or both."),
    ] = "both",
    device: Annotated[str, option("--device", "NAME", "auto, cpu, cuda, cuda:1, mps.", **RUNNING)] = "auto",
    threads: Annotated[int, option("--threads", "N", "Threads of the CPU; 0 for all.", min=0, **RUNNING)] = 0,
    batch: Annotated[int, option("--batch", "N", "Images at a time.", min=2, **RUNNING)] = 32,
    seed: Seed = 0,
    *,
    prepared: ImageOptions,
    output: Output,
) -> None:
    """How many filters of another network, or keys, does a trained network need to keep its answers?

    Each depthwise filter becomes a f + b, f the nearest of the vocabulary; nothing is trained. The answers are those of
    the unchanged network on your images, so that no labels are needed. Controls of the same size are shown beside them.
    """
    from mkfa.figures.graft import draw
    from mkfa.grafts.grafting import graft as run

    names = words(vocabulary)
    output.check([name for name in names if Path(name).is_file()])
    result = run(
        network,
        images=images,
        vocabulary=names,
        weights=weights,
        sizes=sizes,
        layers=layers,
        kernel_size=kernel_size or None,
        curves=curves,
        at=at,
        thresholds=_numbers(thresholds, "--thresholds") or (),
        keep=keep,
        count=prepared.count,
        draws=draws,
        batch_norm=batch_norm,
        size=prepared.size,
        crop_pct=prepared.crop_pct,
        interpolation=prepared.interpolation,
        mean=_numbers(prepared.mean, "--mean"),
        std=_numbers(prepared.std, "--std"),
        device=device,
        threads=threads,
        batch=batch,
        seed=seed,
        notify=warn,
        progress=shown(),
    )
    output.deliver(result, show=lambda: print_graft(result), draw=lambda width: draw(result, width=width))


def _numbers(text: str | None, name: str) -> tuple[float, ...] | None:
    from mkfa.errors import MkfaError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in words(text))
    except ValueError:
        raise MkfaError(f"{name} {text[:40]}", "is not a list of numbers", "write it like 0.5,0.5,0.5") from None


def print_graft(result: Graft) -> None:
    """Print a table of each curve, and what it says."""
    for norm in result.norms:
        _print_sizes(result, norm)
        _print_others(result, norm)
    for layer_note in result.notes:
        say(layer_note)
    for norm in result.norms:
        say(result.sentence(norm))
    if caveat := result.caveat():
        say(caveat)


def _print_sizes(result: Graft, norm: str) -> None:
    unchanged = result.unchanged(norm)
    rows: list[tuple[Any, ...]] = [("unchanged network", "", "–", *_measured(unchanged))]
    for vocabulary in result.vocabularies:
        for i, point in enumerate(result.curve("size", vocabulary["name"], norm)):
            name = (vocabulary["name"], vocabulary["role"]) if i == 0 else ("", "")
            rows.append((*name, f"{point.size:,}", *_measured(point)))
    if len(rows) == 1:
        return
    labelled = unchanged.accuracy.mean == unchanged.accuracy.mean
    columns = ("vocabulary", "", "filters", "same answer", "95 %", "KL", "correlation", "|cos|", "accuracy")
    kept = 9 if labelled else 8
    print_table(
        f"{result.network}: answers on {counted(result.asked, 'image')} of {result.images}, batch statistics {norm}",
        columns[:kept],
        [row[:kept] for row in rows],
        left=2,
        notes=(
            "filters: of each kernel size, to choose from. same answer: share of images whose first class is the "
            "unchanged network's. KL: of the probabilities, nats. 95 %: over images, from three draws on also draws.",
        ),
    )


def _measured(point: Point) -> tuple[Any, ...]:
    agreement = point.agreement
    return (
        _share(agreement.mean),
        _interval(agreement),
        point.kl.mean,
        point.correlation.mean,
        point.cosine,
        _share(point.accuracy.mean),
    )


def _print_others(result: Graft, norm: str) -> None:
    titles = {"first": "Layers 1 to n", "alone": "One layer alone", "similarity": "Filters of |cos| t or more alone"}
    for curve, title in titles.items():
        points = {v["name"]: result.curve(curve, v["name"], norm) for v in result.vocabularies}
        points = {name: found for name, found in points.items() if found}
        if not points:
            continue
        first = next(iter(points.values()))
        rows = []
        for i, point in enumerate(first):
            where = f"{point.threshold:g}" if curve == "similarity" else str(point.layers[-1])
            cells = [_share(found[i].agreement.mean) for found in points.values()]
            if curve == "similarity":
                cells = [
                    f"{cell} of {_share(found[i].replaced)}" for cell, found in zip(cells, points.values(), strict=True)
                ]
            rows.append((where, *cells))
        sizes = ", ".join(f"{name} {found[0].size}" for name, found in points.items())
        what = " and share of filters replaced" if curve == "similarity" else ""
        head = "t" if curve == "similarity" else "layer"
        print_table(
            f"{title}: same answer{what}, batch statistics {norm}",
            (head, *points),
            rows,
            left=1,
            notes=(f"Filters: {sizes}.",),
        )


def _share(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f} %"


def _interval(found: Estimate) -> str:
    return "–" if found.low != found.low else f"{100 * found.low:.0f} – {100 * found.high:.0f}"
