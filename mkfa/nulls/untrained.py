"""The null "init": the same architecture, untrained (torch and timm, imported when called)."""

from __future__ import annotations

from mkfa.banks.bank import FilterBank, make_bank
from mkfa.errors import MkfaError
from mkfa.readers.timm.catalogue import layers_of


def init_bank(bank: FilterBank, seed: int) -> FilterBank:
    """Return a bank of the same architecture, untrained, from timm with this seed.

    Raises
    ------
    MkfaError
        The bank names no architecture, one that timm does not have, or one with other depthwise layers.
    """
    architecture = bank.provenance.architecture.split(".")[0]
    if not architecture:
        raise MkfaError(
            bank.name,
            "names no architecture, so the null 'init' cannot be drawn",
            "harvest it with --arch NAME or choose another null",
        )
    import timm
    import torch

    if not timm.is_model(architecture):
        raise MkfaError(architecture, "is not an architecture of the installed timm", "choose another null")
    # By place in the order of execution, not by name: checkpoints name the same layers in many ways.
    graph = layers_of(architecture)
    shapes = [(layer.channels, layer.kh, layer.kw) for layer in bank.layers]
    if shapes != [(g.shape[0], *g.shape[2:]) for g in graph]:
        raise MkfaError(bank.name, f"has other depthwise layers than timm's {architecture}", "choose another null")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed those of all devices
        state = timm.create_model(architecture, pretrained=False).state_dict()
    layers = [
        (layer, state[g.key].detach().float().numpy().reshape(-1, layer.kh, layer.kw), None)
        for layer, g in zip(bank.layers, graph, strict=True)
    ]
    return make_bank(f"{bank.name} untrained (seed {seed})", layers, bank.provenance)
