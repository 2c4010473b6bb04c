"""Base runs and the filters taken from them: their banks in the library, their weights, their identity.

A base run's bank is stored in the library as DOMAIN+ARCH+RECIPE+sSEED. The bank of seed 0 is also stored under the
domain's plain name; if several runs qualify, the one trained last wins. A bank of another origin of that name, or one
that cannot be read, is never overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.banks.bank_file import read_bank, replace_bank
from mkfa.banks.library import bank_file_name, library_folder
from mkfa.errors import MkfaError, WorkError
from mkfa.images.domain import Domain
from mkfa.storage.heading import now
from mkfa.training.folder import BANK, RESULT, WEIGHTS, RunFolder, load_tensors
from mkfa.training.result import state_digest
from mkfa.training.run import build
from mkfa.training.spec import BASE, RunSpec
from mkfa.version import VERSION

if TYPE_CHECKING:
    import torch

    from mkfa.arms.plant import FilterSource

RUN_PREFIX = "run:"
"""Prefix of a bank's source if a run produced the bank."""


@dataclass(frozen=True, slots=True)
class BaseBanks:
    """Names of a base run's bank in the library; `note` explains why the domain's plain name is not among them."""

    names: tuple[str, ...]
    note: str = ""


def trained_network(root: Path, spec: RunSpec, domain: Domain) -> torch.nn.Module:
    """Return the network of a finished base run, with its final weights, on the CPU.

    Raises WorkError: the run is not done, or its weights are missing or damaged.
    """
    folder = RunFolder(root, spec)
    result = folder.result()
    if result is None or not result.done:
        reached = result.state if result else "not done"
        raise WorkError(spec.label, f"is {reached} and has no filters to take", "change its recipe or seed")
    state = load_tensors(folder.path / WEIGHTS)
    if state is None or state_digest(state) != result.weights_sha256:
        remedy = f"remove {folder.path / RESULT}: the run is then trained again"
        raise WorkError(folder.path / WEIGHTS, "is missing or not what the run ended with", remedy)
    model, _ = build(spec, domain, None)
    model.load_state_dict(state)
    return model.eval()


def run_bank(model: torch.nn.Module, spec: RunSpec, domain: Domain, *, digest: str) -> FilterBank:
    """Return the bank of a trained network's depthwise filters; raises MkfaError if it has none."""
    from mkfa.networks.layers import spatial_layers

    layers: list[tuple[Layer, Any, Any]] = []
    for name, module in spatial_layers(model, "depthwise"):
        conv: Any = module
        weight = conv.weight.detach().numpy().astype(np.float32)[:, 0]  # (N, kh, kw)
        bias = None if conv.bias is None else conv.bias.detach().numpy().astype(np.float32)
        n, kh, kw = weight.shape
        layer = Layer(
            0,
            f"{name}.weight",
            _stage(name),
            0.0,
            n,
            kh,
            kw,
            tuple(conv.stride),
            tuple(conv.dilation),
            n // conv.in_channels,
            has_bias=bias is not None,
            dtype="float32",
        )
        layers.append((layer, weight, bias))
    provenance = Provenance(
        source=RUN_PREFIX + spec.hash,
        source_sha256=digest,
        architecture=spec.arch,
        training_set=domain.name,
        task="classification",
        licence=domain.licence,
        rule="graph",
        mkfa_version=VERSION,
        created=now(),
        notes=(f"base run, recipe {spec.recipe_name}, seed {spec.seed}",),
    )
    return make_bank(domain.name, layers, provenance)


def borrowed_filters(
    model: torch.nn.Module, spec: RunSpec, domain: Domain, *, to: RunSpec, digest: str
) -> FilterSource:
    """Return the filters that an arm takes from a base run's network: its bank, weights or layers.

    Parameters
    ----------
    model, spec, domain, digest
        The network, its run, its training domain, and the digest of its weights.
    to : the run that receives the filters. Layers are matched by name only if both runs have the same network.
    """
    from mkfa.arms.plant import weights_of_layers

    same = (spec.arch, dict(spec.options)) == (to.arch, dict(to.options))
    if to.what == "depthwise" and not (to.with_norm and same):
        return run_bank(model, spec, domain, digest=digest)
    if same:
        return model.state_dict()
    return weights_of_layers(model, to.what)


def store_bank(root: Path, spec: RunSpec, domain: Domain) -> BaseBanks:
    """Store a base run's bank in its folder and the library, unless present; raises as `trained_network`."""
    folder = RunFolder(root, spec)
    full = f"{domain.name}+{spec.arch}+{spec.recipe_name}+s{spec.seed}"
    library = library_folder(create=True)
    names, notes = [], []
    for name in (full, domain.name) if spec.seed == 0 else (full,):
        if kept := _not_ours(library / bank_file_name(name)):
            notes.append(f"{name} stays {kept}")
        else:
            names.append(name)
    paths = [folder.path / BANK, *(library / bank_file_name(name) for name in names)]
    from mkfa.networks.layers import spatial_layers

    try:
        spatial_layers(build(spec, domain, None)[0], "depthwise")
    except MkfaError:
        return BaseBanks((), f"{spec.arch} has no depthwise layers and leaves no bank")
    stale = [path for path in paths if _source_of(path) != RUN_PREFIX + spec.hash]
    if stale:
        result = folder.result()
        digest = result.weights_sha256 if result else ""
        bank = run_bank(trained_network(root, spec, domain), spec, domain, digest=digest)
        for path in stale:
            named = replace(bank, name=domain.name if path.stem == domain.name else full)
            notes += [f"{path.stem}: {said}" for said in replace_bank(named, path)]
    return BaseBanks(tuple(names), "; ".join(notes))


def base_of(spec: RunSpec) -> RunSpec:
    """Return a run's base run: same network, domain, recipe and seed, but nothing planted."""
    return replace(
        spec, arm=BASE, layers=0, what="depthwise", with_bias=False, with_norm=False, fit_kernel="", source=""
    )


def _source_of(path: Path) -> str | None:
    try:
        return read_bank(path).provenance.source
    except MkfaError:
        return None


def _not_ours(path: Path) -> str:
    """Return what is at the path of a base run's bank, if no base run left it; else ""."""
    if not path.exists():
        return ""
    try:
        source = read_bank(path).provenance.source
    except MkfaError as error:
        return f"as it is, since its bank cannot be read ({error.problem})"
    return "" if source.startswith(RUN_PREFIX) else f"the bank harvested from {source or 'an unknown source'}"


def _stage(name: str) -> int:
    """Return the number after "stages" in a layer's name; isotropic networks have one stage."""
    parts = name.split(".")
    return int(parts[parts.index("stages") + 1]) if "stages" in parts else 0
