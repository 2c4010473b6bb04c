"""The training verbs: base runs, a transfer, a curve over layers, a matrix of domains.

Each plans its runs, trains the unfinished ones, and returns a result. The shared options are those of
`mkfa.experiments.options.TrainingOptions`, named as on the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

from mkfa.arguments import check_arguments
from mkfa.experiments.defaults import LAYERS, PAIR, SIX
from mkfa.experiments.options import Layers, Names, TrainingOptions, TransferOptions, check_names
from mkfa.experiments.planning import plan_curve, plan_matrix, plan_train
from mkfa.progress import Progress

if TYPE_CHECKING:
    from mkfa.experiments.sweep_plan import Numbers
    from mkfa.results.curve import Curve
    from mkfa.results.matrix import Matrix
    from mkfa.results.record import RunList
    from mkfa.results.sweep import Sweep
    from mkfa.results.table import Scenarios


def train(domain: str | Path, *, progress: Progress = None, **options: Unpack[TrainingOptions]) -> RunList:
    """Train base runs on a domain; each leaves its filters as a bank in the library.

    Parameters
    ----------
    domain : str or Path
        Name of a domain, a packed file, or a folder of images.
    progress : bool or callable
        True for a progress bar over runs; a function is called with (runs done, runs in total).
    **options
        See `mkfa.experiments.options.TrainingOptions`. Default: arch "convnext_femto", recipe "fast", 3 seeds.

    Returns
    -------
    RunList
        One `RunRecord` per seed, with specification, result and metrics.

    Raises
    ------
    MkfaError
        An unknown domain, network, recipe or option, or a request that cannot be carried out.
    WorkError
        A run failed, or none ended with a result.

    Examples
    --------
    >>> import tempfile
    >>> small = {"arch": "convmixer_4_1", "recipe": "smoke", "equal_steps": 1, "set": {"batch": 4}, "threads": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [run] = train("digits", seeds=1, out=folder, device="cpu", **small)
    >>> run.state, run.spec.label
    ('done', 'digits convmixer_4_1 seed 0')
    """
    check_arguments(train, locals())
    from mkfa.results.record import RunList
    from mkfa.results.runs import load_run

    check_names(options, TrainingOptions)
    plan = plan_train(domain, options)
    plan.carry_out(progress)
    return RunList(tuple(load_run(plan.root, run.spec.hash) for run in plan.runs))


def transfer(
    source: Names,
    target: str | Path,
    *,
    arms: Names | None = None,
    layers: Layers = "all",
    progress: Progress = None,
    **options: Unpack[TransferOptions],
) -> Scenarios:
    """Set the filters of the first layers by each arm, train the rest, and compare with the target's base runs.

    Parameters
    ----------
    source : str, Path or list
        Domains (their base runs of the same seed), banks, checkpoints or folders of base runs.
    target : str or Path
        Training domain.
    arms : str or list
        How filters are set; see `mkfa.arms.arms.ARMS`. Default: "transfer", or "stack" with `source_arch`.
    layers : int or "all"
        Number of layers to set, from the first.
    progress, **options
        As in `train`, and those of `mkfa.experiments.options.TransferOptions`.

    Returns
    -------
    Scenarios
        One row per arm and source, with its change from the base.

    Raises
    ------
    MkfaError, WorkError
        As `train`; or filters that do not fit the target's network.

    Examples
    --------
    >>> import tempfile
    >>> small = {"arch": "convmixer_4_1", "recipe": "smoke", "equal_steps": 1, "set": {"batch": 4}, "threads": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = transfer("digits", "digits", arms="random,delta", seeds=1, out=folder, device="cpu", **small)
    >>> [row.label for row in table.scenarios]
    ['random', 'delta']
    """
    check_arguments(transfer, locals())
    check_names(options, TransferOptions)
    chosen: TransferOptions = {"arch": "convnext_femto", "recipe": "fast", **options}
    plan = plan_curve(chosen, source=source, target=target, layers=layers, arms=arms, kind="table", verb="transfer")
    plan.carry_out(progress)
    return cast("Scenarios", plan.summarise())


def transfer_curve(
    *,
    source: Names = PAIR[0],
    target: str | Path = PAIR[1],
    layers: Layers = LAYERS,
    arms: Names | None = None,
    progress: Progress = None,
    **options: Unpack[TransferOptions],
) -> Curve:
    """Return how accuracy changes as more layers are borrowed and frozen, for several arms and seeds.

    Parameters
    ----------
    layers : int, range, list or str
        Numbers of layers to set: range(1, 19), [1, 2, 4], "0..12..3".
    arms : str or list
        Default: "transfer,selffer,random,delta", with "stack" instead of "transfer" with `source_arch`.
    source, target, progress, **options
        As in `transfer`; if no arch is given, `mkfa.experiments.defaults.default_options` gives it and changes to the
        recipe "fast".

    Returns
    -------
    Curve

    Raises
    ------
    MkfaError, WorkError
        As `transfer`.

    Examples
    --------
    >>> import tempfile
    >>> small = {"arch": "convmixer_4_1", "recipe": "smoke", "equal_steps": 1, "set": {"batch": 4}, "threads": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curve = transfer_curve(
    ...         source="digits", target="digits", layers=1, arms="random", seeds=1, out=folder, device="cpu", **small
    ...     )
    >>> [(cell.arm, cell.layers) for cell in curve.cells]
    [('random', 1)]
    """
    check_arguments(transfer_curve, locals())
    check_names(options, TransferOptions)
    plan = plan_curve(options, source=source, target=target, layers=layers, arms=arms, kind="curve")
    plan.carry_out(progress)
    return cast("Curve", plan.summarise())


def transfer_sweep(
    *,
    source: Names = PAIR[0],
    target: str | Path = PAIR[1],
    channels: Numbers | None = None,
    kernels: Numbers | None = None,
    steps: Numbers | None = None,
    arms: Names | None = None,
    layers: Layers = "all",
    progress: Progress = None,
    **options: Unpack[TransferOptions],
) -> Sweep:
    """Return how the difference between learned and random filters changes with width, kernel size and training time.

    Parameters
    ----------
    channels, kernels : int, list or str
        Channels and kernel sizes of a network of one resolution, such as "8,16,32"; every width with every kernel.
        With no axis named: 8, 16 and 32 channels, kernels of 3, 5 and 7.
    steps : int, list or str
        Numbers of optimiser steps, such as [150, 600, 1500], of any network.
    arms : str or list
        Default: "transfer,random,delta", with "stack" instead of "transfer" with `source_arch`.
    source, target, layers, progress, **options
        As in `transfer`; if no arch is given, it is a small residual mixer, with changes to the recipe "fast".

    Returns
    -------
    Sweep
        With the line of the difference along D / f^2 (channels over taps) and along the steps.

    Raises
    ------
    MkfaError, WorkError
        As `transfer`; or an axis that the network does not have.

    Examples
    --------
    >>> import tempfile
    >>> small = {"arch": "resmixer_4_1", "recipe": "smoke", "set": {"batch": 4}, "threads": 1, "device": "cpu"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sweep = transfer_sweep(source="digits", target="digits", steps=[1, 2], seeds=1, out=folder, **small)
    >>> [(point.steps, round(point.ratio, 3)) for point in sweep.points]
    [(1, 0.082), (2, 0.082)]
    """
    check_arguments(transfer_sweep, locals())
    from mkfa.experiments.sweep_plan import plan_sweep

    check_names(options, TransferOptions)
    plan = plan_sweep(
        options, source=source, target=target, channels=channels, kernels=kernels, steps=steps, arms=arms, layers=layers
    )
    plan.carry_out(progress)
    return cast("Sweep", plan.summarise())


def transfer_matrix(
    target: Names = SIX,
    *,
    source: Names | None = None,
    arms: str = "transfer",
    controls: str | None = None,
    layers: Layers = "all",
    progress: Progress = None,
    **options: Unpack[TransferOptions],
) -> Matrix:
    """Train every source on every target, with selffer on the diagonal.

    Parameters
    ----------
    target : str or list
        Targets; each is also a source.
    source : str or list
        Sources that are not targets.
    arms : str
        The arm off the diagonal.
    controls : str
        Arms that need no source, joined by commas; "none" for none, None for random and delta if applicable.
    layers, progress, **options
        As in `transfer`. Default: arch "convmixer_48_6", recipe "fast", 1 seed.

    Returns
    -------
    Matrix

    Raises
    ------
    MkfaError, WorkError
        As `transfer`.

    Examples
    --------
    >>> import tempfile
    >>> small = {"arch": "convmixer_4_1", "recipe": "smoke", "equal_steps": 1, "set": {"batch": 4}, "threads": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     matrix = transfer_matrix("digits,fashion", controls="none", out=folder, device="cpu", **small)
    >>> len(matrix.cells)
    4
    """
    check_arguments(transfer_matrix, locals())
    check_names(options, TransferOptions, without=["source_arch"])
    plan = plan_matrix(options, target=target, source=source, arms=arms, controls=controls, layers=layers)
    plan.carry_out(progress)
    return cast("Matrix", plan.summarise())
