"""What the programme costs: runs, images, operations and device-hours of every figure and table.

**Operations.** A forward pass takes two operations per multiply-add, a training step as many as three forward passes
(forward, gradients of activations, gradients of weights). Frozen layers, which need no gradient of their weights, get
no discount, and reading and decoding images costs nothing here: results say so.

**Device-hours** follow from the images per second that a device trains. Each such rate is marked: "measured" (on this
machine, by `measure_rate`), "given" (by the caller), "published" (with what it follows from), or "assumed".
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, ClassVar

from mkfa.arguments import check_arguments
from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.images.registry import images_of
from mkfa.progress import Progress, follow
from mkfa.storage.records import Result
from mkfa.training.device import Execution
from mkfa.training.recipe import load_recipe
from mkfa.training.spec import RunSpec
from mkfa.words import counted

OPERATIONS = 2
"""Operations of a multiply-add."""
BACKWARD = 3
"""Forward passes that a training step costs."""
DEVICES = (1, 8, 64)
"""Numbers of devices for which days are given."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Images per second that a device trains, where the number comes from, and what a published one follows from."""

    network: str
    images_per_second: float
    kind: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one seed of a figure or table; `hours` are those of one device."""

    title: str
    runs: int
    train_images: int
    test_images: int
    operations: float
    hours: float

    @property
    def days(self) -> dict[int, float]:
        """Days on 1, 8 and 64 devices."""
        return {count: self.hours / count / 24 for count in DEVICES}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Costs(Result):
    """What the runs of a programme cost: images, operations and device-hours.

    Attributes
    ----------
    of : what is counted, in words.
    device : the device of the known rates.
    seeds : how many times everything is trained.
    costs : one seed of each figure and table; a run that several share is counted where it comes first.
    rates : of all networks.
    """

    KIND: ClassVar[str] = "costs"
    of: str
    device: str
    seeds: int
    costs: tuple[Cost, ...]
    rates: tuple[Rate, ...]

    @property
    def total(self) -> Cost:
        """The sum over all figures and tables, of one seed."""
        return _sum("all", self.costs)

    def days(self) -> dict[int, float]:
        """Return the days that all seeds take on 1, 8 and 64 devices."""
        return {count: self.seeds * days for count, days in self.total.days.items()}

    def headline(self) -> str:
        """Return the total of one seed."""
        total = self.total
        images, work = total.train_images / 1e9, total.operations / 1e18
        return f"{counted(total.runs, 'run')}, {images:.1f} G images, {work:.0f} EFLOP per seed"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per figure and table, and their sum."""
        keys = ("title", "runs", "train_images", "test_images", "operations", "hours")
        return [
            {key: getattr(cost, key) for key in keys} | {f"days_on_{count}": days for count, days in cost.days.items()}
            for cost in (*self.costs, self.total)
        ]

    def facts(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        rates = [
            {key: getattr(rate, key) for key in ("network", "images_per_second", "kind", "note")} for rate in self.rates
        ]
        return {
            "of": self.of,
            "device": self.device,
            "seeds": self.seeds,
            "costs": self.rows(),
            "rates": rates,
            "days": {str(count): days for count, days in self.days().items()},
        }


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return tomllib.loads(files("mkfa.evidence").joinpath("costs.toml").read_text("utf-8"))


def paper_costs(
    *,
    seeds: int = 5,
    rates: Mapping[str, float] | None = None,
    measure: bool = False,
    download_sources: bool = False,
    every: int = 1,
    device: str = "auto",
    progress: Progress = None,
) -> Costs:
    """Return what the paper's own runs cost: 300 epochs at 224 px, and the test images after every epoch.

    Parameters
    ----------
    seeds : int
        How many times everything is trained; the paper trained once.
    rates : mapping
        Images per second by network, instead of the known ones.
    measure : bool
        Time training steps of every network on this machine.
    download_sources : bool
        Networks that are sources alone are downloaded, since their weights are published, and not trained.
    every : int
        Figure 2b is trained at every `every`-th number of layers only.
    device : str
        Where steps are timed.
    progress : as in `mkfa.progress.Progress`; counts networks that are timed.

    Raises
    ------
    MkfaError
        A rate is of a network that is not used, or not above 0; `every` is below 1.

    Examples
    --------
    >>> costs = paper_costs(seeds=1)
    >>> costs
    <Costs: 200 runs, 15.8 G images, 532 EFLOP per seed>
    >>> [(rate.network, rate.kind) for rate in costs.rates if rate.kind != "assumed"]
    [('resnet50', 'published')]
    """
    check_arguments(paper_costs, locals())
    table = _table()
    if seeds < 1:
        raise MkfaError(f"--seeds {seeds}", "is below 1", "choose 1 or more")
    if every < 1:
        raise MkfaError(f"--every {every}", "is below 1", "choose 1 or more")
    rows = [row for row in table["row"] if not (download_sources and row.get("sources"))]
    networks = list(dict.fromkeys(network for row in rows for network, _, _ in row["runs"]))
    facts = {name: table["networks"][name] for name in networks}
    known = {name: Rate(name, each["rate"], each["kind"], each.get("note", "")) for name, each in facts.items()}
    known = _rates(known, rates or {}, measure=measure, device=device, progress=progress)
    recipe = load_recipe("paper")
    costs = []
    for row in rows:
        runs = [(network, domain, count) for network, domain, count in row["runs"]]
        if points := row.get("points"):
            network, domain, count = runs[-1]
            runs[-1] = (network, domain, count - points + -(-points // every))
        parts = []
        for network, domain, count in runs:
            train, test = images_of(domain)
            batch = min(recipe.batch, train)
            trained = recipe.epochs * (train // batch) * batch
            parts.append(
                _cost(count, trained, recipe.epochs * test, table["networks"][network]["macs"], known[network])
            )
        costs.append(_sum(row["title"], parts))
    return Costs("the paper's own runs", table["device"], seeds, tuple(costs), tuple(known.values()))


def _rates(
    known: Mapping[str, Rate], given: Mapping[str, float], *, measure: bool, device: str, progress: Progress
) -> dict[str, Rate]:
    """Return the rates of networks, with given and measured ones in place of known ones."""
    for network, rate in given.items():
        if network not in known:
            raise MkfaError(f"--rate {network}", "is a network that is not trained", f"choose from {', '.join(known)}")
        if not rate > 0:
            raise MkfaError(f"--rate {network}={rate:g}", "is not a number of images per second", "give one above 0")
    made = dict(known) | {network: Rate(network, rate, "given") for network, rate in given.items()}
    left = [network for network in made if network not in given]
    if measure:
        with follow(progress, "networks", len(left)) as advance:
            for network in left:
                made[network] = Rate(network, measure_rate(network, device=device), "measured")
                advance(1)
    return made


def measure_rate(network: str, *, size: int = 224, device: str = "auto", classes: int = 1000) -> float:
    """Return the images per second of training steps as a run takes them: the recipe "paper" with its augmentation.

    Batches are of 128 images on a GPU and of 4 elsewhere. The images are random and in memory: nothing is read or
    decoded. Steps are timed as for an estimate, after one step of warming up.

    Parameters
    ----------
    network : any name that `mkfa.networks.build.build_network` takes.
    size : pixels.
    device : "auto", "cpu", "cuda".
    classes : of the classifier.
    """
    import numpy as np

    from mkfa.engines.estimate import Specimen

    execution = Execution(device)
    batch = 128 if execution.resolved().device.type == "cuda" else 4
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8), np.arange(batch) % classes
    names = tuple(map(str, range(classes)))
    domain = Domain("random images", names, images, labels, images[:1], labels[:1], digest="")
    recipe = load_recipe("paper", {"batch": batch, "size": size})
    spec = RunSpec(network, domain.name, "", recipe.name, recipe.identity, 0)
    return batch / Specimen(spec, {domain.name: domain}, execution).time().step


def _cost(runs: int, train: int, test: int, macs: float, rate: Rate) -> Cost:
    """Return the cost of equal runs of `train` and `test` images each."""
    forward = BACKWARD * train + test
    hours = runs * forward / BACKWARD / rate.images_per_second / 3600
    return Cost("", runs, runs * train, runs * test, runs * OPERATIONS * macs * forward, hours)


def _sum(title: str, costs: Sequence[Cost]) -> Cost:
    return Cost(
        title,
        sum(cost.runs for cost in costs),
        sum(cost.train_images for cost in costs),
        sum(cost.test_images for cost in costs),
        sum(cost.operations for cost in costs),
        sum(cost.hours for cost in costs),
    )
