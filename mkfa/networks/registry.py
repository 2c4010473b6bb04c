"""Register networks of one resolution with timm (timm inside functions)."""

from __future__ import annotations

from typing import Any

from mkfa.networks.names import parse_name
from mkfa.words import counted

default_cfgs: dict[str, Any] = {}
"""Read by timm's registry, which expects it in the module of an entry point."""


def register(arch: str) -> None:
    """Register a `resmixer_C_L` or `convnext_C_L` with timm; repeated calls have no effect.

    Raises
    ------
    ValueError
        The name is not of this form.

    Examples
    --------
    >>> import timm
    >>> register("resmixer_8_2")
    >>> timm.create_model("resmixer_8_2", num_classes=3).blocks[0].depthwise.conv.weight.shape
    torch.Size([8, 1, 7, 7])
    """
    import timm
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

    from mkfa.networks import isotropic_convnext, residual_mixer

    said = parse_name(arch)
    if said is None or said.kind == "convmixer":
        raise ValueError(f"{arch}: neither a residual mixer (resmixer_C_L) nor an isotropic ConvNeXt (convnext_C_L)")
    if timm.is_model(arch):
        return
    network = (residual_mixer if said.kind == "resmixer" else isotropic_convnext).network_class()

    def build(pretrained: bool = False, **options: Any) -> Any:
        return build_model_with_cfg(network, arch, pretrained, width=said.width, layers=said.layers, **options)

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
    default_cfgs.update(generate_default_cfgs({f"{arch}.untrained": facts}))
    build.__name__ = arch
    build.__doc__ = f"{network.__name__} with {counted(said.width, 'channel')} and {counted(said.layers, 'layer')}."
    register_model(build)
