"""Put networks of one resolution into timm's registry (timm inside functions)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mkfa.networks.names import Name


def register_small(said: Name, arch: str, *, module: str, configs: dict[str, Any], network: Callable[[], Any]) -> None:
    """Register a network unless timm has one of that name.

    Parameters
    ----------
    said : Name
        Its channels and layers.
    arch : str
        Its name.
    module, configs
        The name of the module that the network belongs to, and that module's `default_cfgs`, where timm looks.
    network : callable
        Returns the class, whose first two parameters are channels and layers.
    """
    import timm
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

    if timm.is_model(arch):
        return

    def build(pretrained: bool = False, **options: Any) -> Any:
        return build_model_with_cfg(network(), arch, pretrained, width=said.width, layers=said.layers, **options)

    facts = {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 32, 32),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "stem.0",
        "classifier": "head",
    }
    configs.update(generate_default_cfgs({f"{arch}.untrained": facts}))
    build.__name__, build.__module__ = arch, module
    build.__doc__ = f"{network().__name__} with {said.width} channels and {said.layers} layers."
    register_model(build)
