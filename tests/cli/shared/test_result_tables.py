"""What tables of a curve share: the sentence on what it could see."""

from __future__ import annotations

import math
import re

import pytest
from planted_sweep import PARAMETERS
from planted_sweep import runs as planted

from mkfa.cli.shared.result_tables import print_contrasts, print_result, sensitivity
from mkfa.results.cells import Cell, Sensitivity
from mkfa.results.contrasts import contrasts_of
from mkfa.results.gather import make_result
from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult


def test_what_lies_within_the_bound_of_chance_is_not_called_seen():
    def told(distance: float, bound: float) -> str:
        return sensitivity(Sensitivity("delta", 6, 0.01, 0.004, distance, bound))

    assert "so it is not shown that this setting can see filters at all." in told(2.5, 2.8)
    assert told(2.9, 2.8) == (
        "Sensitivity: worst is delta at 6 layers, 1.0 points below the base, 2.9 SD of the seeds (SD 0.4). "
        "Resolution: unknown; it takes seeds that differ, and enough of them for intervals below 100 points."
    )
    assert told(math.nan, math.nan).endswith("needs two seeds.")
    assert sensitivity(None).endswith("nothing is done.")


def test_seeds_that_do_not_differ_have_no_interval(capsys):
    def cell(arm: str, *top1: float) -> Cell:
        return Cell("a", "b", arm, 0 if arm == "baseline" else 2, (0, 1), top1, sum(top1) / 2, 0, 0, 0, 0, 0)

    print_contrasts(contrasts_of(cell("baseline", 0.5, 0.5), [cell("delta", 0.4, 0.4), cell("box", 0.3, 0.4)]))
    rows = {line.split("  ")[0]: line.split()[-5:] for line in capsys.readouterr().out.splitlines()}
    assert rows["delta - baseline"] == ["-10.000", "–", "–", "–", "–"]
    assert rows["box - baseline"][0] == "-15.000" and float(rows["box - baseline"][1]) > 10


def runs_of(*values: tuple[str, int, dict[int, float]]) -> list[RunRecord]:
    """Return finished runs: arm, number of layers, top-1 by seed."""
    return [
        RunRecord("" if arm in ("random", "delta") else "a", "b", arm, layers, seed, RunResult("done", top1, top1, 0.1))
        for arm, layers, tops in values
        for seed, top1 in tops.items()
    ]


def shifted(by: float, *tops: float) -> dict[int, float]:
    return {seed: top1 + by for seed, top1 in enumerate(tops)}


VARIED, OTHER = (0.70, 0.72, 0.73), (0.71, 0.70, 0.74)
SYNTHETIC = {
    "seeds that vary": (VARIED, OTHER),
    "the same difference in every seed": (VARIED, VARIED),
    "no seeds differ": ((0.7,) * 3, (0.6,) * 3),
    "one side does not differ": ((0.7,) * 3, OTHER),
    "too far apart for two seeds": ((0.2, 0.9), (0.3, 0.5)),
    "too far apart for Welch alone": ((0.2, 0.9), (0.21, 0.89)),
    "one seed": ((0.7,), (0.6,)),
}


@pytest.mark.parametrize("kind", ["curve", "table"])
@pytest.mark.parametrize("name", SYNTHETIC)
def test_prose_and_table_of_a_result_say_the_same(kind, name, capsys):
    """Each sentence has the numbers of its row, an interval where that has one, and the same place of 0."""
    first, second = SYNTHETIC[name]
    layers = (3, 6) if kind == "curve" else (6,)
    values = [("baseline", 0, shifted(0.1, *OTHER[: len(first)]))]
    values += [("transfer", n, shifted(0.01 * n, *first)) for n in layers]
    values += [("random", n, shifted(0, *second)) for n in layers] + [
        ("delta", n, shifted(-0.2, *second)) for n in layers
    ]
    parameters = {"source": "a", "target": "b", "arch": "n", "what": "depthwise", "seeds": 3, "layers": list(layers)}
    print_result(make_result(kind, runs_of(*values), parameters))
    out = capsys.readouterr().out
    lines = out.partition("\nDifferences\n")[2].splitlines()[1:]
    rows = {}
    for line in lines:
        cells = re.split(r"\s{2,}", line.strip())
        if len(cells) != 8:
            break
        rows[cells[0], cells[1]] = [None if cell == "–" else float(cell) for cell in cells[3:]]
    said = dict(
        re.findall(
            r"(transfer (?:minus random|from 3 to 6).*?): (.*?)\.(?=\s*(?:[A-Z]|transfer|$))", " ".join(out.split())
        )
    )
    told = 0
    for (series, where), (points, welch, paired, *_) in rows.items():
        subject = {
            "transfer - random": f"transfer minus random at {where} layers",
            "transfer": f"transfer from {where} layers",
        }.get(series, "")
        if series == "transfer - random" and where.startswith("mean"):
            subject = f"transfer minus random, mean over {where[8:]} numbers of layers"
        if not subject:
            continue
        sentence, told = said[subject], told + 1
        assert sentence.startswith(f"{points:+.1f} points")
        spans = [[float(x) for x in span] for span in re.findall(r"([+-][\d.]+) to ([+-][\d.]+)", sentence)]
        widths = [width for width in (welch, paired) if width is not None]
        assert [(high - low) / 2 for low, high in spans] == pytest.approx(widths, abs=0.11)
        assert ("no interval" in sentence) == (len(widths) < 2)
        inside = {abs(points) <= width for width in widths}
        verdict = {(True,): "0 is inside", (False,): "0 is outside"}.get(tuple(inside), "")
        assert verdict in sentence if verdict else "0 is" not in sentence
    assert told == (3 if kind == "curve" else 1)


@pytest.mark.parametrize("off", [(0.70, 0.66), (0.7, 0.7), (0.9, 0.2)], ids=["vary", "equal", "too far apart"])
def test_the_sentence_on_a_matrix_has_the_mean_of_its_table(off, capsys):
    """Off the diagonal the table has changes against the base; their mean over targets is that of the sentence."""
    runs = [
        RunRecord(source, target, arm, layers, seed, RunResult("done", top1, top1, 0.1))
        for target, top1_off in zip("xy", off, strict=True)
        for source, arm, layers, top1 in (
            (target, "baseline", 0, 0.8),
            (target, "selffer", 3, 0.78),
            ({"x": "y", "y": "x"}[target], "transfer", 3, top1_off),
            ("", "delta", 3, 0.3),
        )
        for seed in (0, 1)
    ]
    parameters = {"domains": ["x", "y"], "arch": "n", "what": "k", "layers": 3, "seeds": 2}
    print_result(make_result("matrix", runs, parameters))
    out = capsys.readouterr().out
    rows = {line.split()[0]: re.findall(r"\(([+-][\d.]+)\)", line) for line in out.splitlines() if line.strip()}
    changes = [float(rows["x"][1]), float(rows["y"][0])]
    said = " ".join(out.split()).partition("transfer minus the base of the same target: ")[2].partition(" - ")[0]
    assert float(said.split()[0]) == pytest.approx(sum(changes) / 2, abs=0.06)
    if off != (0.70, 0.66):
        assert "no interval" in said
        return
    low, high = map(float, re.findall(r"interval ([+-][\d.]+) to ([+-][\d.]+)", said)[0])
    assert (high - low) / 2 == pytest.approx(12.706 * abs(changes[0] - changes[1]) / 2, abs=0.1)
    assert ("0 is inside" in said) == (low < 0 < high)
    assert said.endswith(".") and "x 50.0 by delta" in " ".join(out.split())


def test_the_sentence_on_a_sweep_has_the_numbers_of_its_least_sensitive_row(capsys):
    print_result(make_result("sweep", planted(lambda ratio, _: 0.1 - 0.01 * ratio), PARAMETERS))
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if re.match(r"\d+ x \dx\d ", line)]
    by_sd = {(row[0], row[2]): float(row[-1]) for row in rows}
    width, kernel = min(by_sd, key=lambda key: by_sd[key])
    text = " ".join(out.split())
    assert f"Least sensitive: {width} channels, kernels of {kernel[0]}" in text
    assert float(re.findall(r"below the base, ([\d.]+) SD", text)[0]) == pytest.approx(min(by_sd.values()), abs=0.06)
