"""Build untrained networks for a domain (torch inside functions).

**Names.** Any timm architecture; `hornet_tiny`, `hornet_small`, `hornet_base`, `hornet_large` and the authors' names
for them, `hornet_tiny_7x7` and so on (mkfa.networks.hornet); and networks of one resolution with C channels and L
layers (mkfa.networks.names): residual mixers `resmixer_C_L` (mkfa.networks.residual_mixer), ConvNeXts `convnext_C_L`
(mkfa.networks.isotropic_convnext) and ConvMixers `convmixer_C_L` (timm's class), by default with 7x7 kernels and
patches of 4, 4 and 2 pixels. A name that timm knows, such as `convmixer_768_32`, means timm's network.

**Small inputs.** Networks designed for 224 px reduce a 32 px image to almost nothing. For images of up to 64 px, the
stride of the first convolution is therefore halved (ConvNeXt's 4x4 patches become 2x2; a 3x3 convolution of stride 2
gets stride 1), unless `stem_stride` overrides it. If the first convolution's kernel equals its stride (patches), the
kernel is resized too and reinitialised from a truncated normal with the same standard deviation. For larger images,
the network is unchanged.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.networks.names import FORMS, Name, parse_name
from mkfa.several import as_several
from mkfa.words import counted

if TYPE_CHECKING:
    from torch import nn

SMALL = 64
"""Largest image size, in pixels, at which the first convolution's stride is halved."""
LARGEST = 2_000_000_000
"""Maximum number of weights of a network of one resolution, so that a typo cannot exhaust memory."""


def build_network(  # noqa: PLR0913 (options are keywords)
    arch: str,
    *,
    classes: int,
    channels: int,
    size: int,
    seed: int,
    drop_path: float = 0.0,
    stem_stride: int | None = None,
    kernel: int | None = None,
    patch: int | None = None,
    branch_gain: float | None = None,
) -> nn.Module:
    """Build an untrained network. The same arguments give the same weights; torch's global generators are unaffected.

    Parameters
    ----------
    arch : see above.
    classes, channels, size : from the domain: number of classes, colour channels, image size in pixels.
    seed : seed of the initial weights.
    drop_path : maximum rate of stochastic depth; the rate rises linearly from 0 with depth.
    stem_stride : stride of the first convolution; None: the default for the image size, see above.
    kernel, patch : kernel and patch size; networks of one resolution only.
    branch_gain : initial weight of the batch norms that end the branches of a `resmixer_C_L`, and of the layer scale of
        a `convnext_C_L`; others have no such option.

    Raises UnknownNameError: no such architecture. Raises MkfaError: the network cannot be built with these options or
    does not accept images of this size.

    Examples
    --------
    >>> model = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=0)
    >>> sum(p.numel() for p in model.parameters())
    1091
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all devices
        options: dict[str, Any] = {"kernel": kernel, "patch": patch, "branch_gain": branch_gain}
        if (name := check_options(arch, stem_stride=stem_stride, **options)) is not None:
            model = _small(arch, name, drop_path, options, in_chans=channels, num_classes=classes)
        else:
            model = _timm(arch, classes=classes, channels=channels, size=size, drop_path=drop_path)
            _fit_stem(arch, model, stem_stride, size)
    model.image_shape = (channels, size, size)
    _check_takes(arch, model)
    built: nn.Module = model
    return built


def find_small(arch: str) -> Name | None:
    """Return the parts of the name of a network of one resolution; None for any other name, such as one of timm's.

    Examples
    --------
    >>> find_small("convmixer_48_6"), find_small("convmixer_768_32")
    (Name(kind='convmixer', width=48, layers=6), None)
    """
    name = parse_name(arch)
    return None if name is not None and name.kind == "convmixer" and _is_timms(arch) else name


def _is_timms(arch: str) -> bool:
    """True if timm has a ConvMixer of this name. Its source is searched, since importing timm takes seconds."""
    if "timm" not in sys.modules and (spec := importlib.util.find_spec("timm")) and spec.origin:
        with contextlib.suppress(OSError):
            return f"\ndef {arch}(" in Path(spec.origin).with_name("models").joinpath("convmixer.py").read_text("utf-8")
    import timm

    return bool(timm.is_model(arch))


def check_options(
    arch: str,
    *,
    stem_stride: int | None = None,
    kernel: int | None = None,
    patch: int | None = None,
    branch_gain: float | None = None,
) -> Name | None:
    """Return what `find_small` returns; raises MkfaError for options of `build_network` that the network cannot have.

    Examples
    --------
    >>> check_options("convnext_tiny", stem_stride=2), check_options("resmixer_32_6", kernel=5)
    (None, Name(kind='resmixer', width=32, layers=6))
    """
    name = find_small(arch)
    if name is None:
        if kernel is not None or patch is not None:
            raise MkfaError(arch, "has fixed kernels and patches", f"use --kernel and --patch with {FORMS} only")
        if stem_stride is not None and stem_stride < 1:
            raise MkfaError("--stem-stride", f"is {stem_stride}", "choose 1 or more")
    else:
        if stem_stride is not None and stem_stride != (patch or name.defaults.patch):
            raise MkfaError(arch, "has patches, whose size is the stride of the stem", "pass --patch instead")
        width, depth, usual = name.width, name.layers, name.defaults
        size, stride = usual.kernel if kernel is None else kernel, usual.patch if patch is None else patch
        if width < 2 or depth < 1 or size < 3 or stride < 1:
            asked = (
                f"{counted(width, 'channel')}, {counted(depth, 'layer')}, {size}x{size} kernels and patches of {stride}"
            )
            problem = f"cannot have {asked}"
            raise MkfaError(arch, problem, "choose at least two channels, one layer, 3x3 kernels and patches of 1")
        weights = depth * width * (width * (8 if name.kind == "convnext" else 1) + size * size)
        if weights > LARGEST:
            raise MkfaError(arch, f"would have {weights / 1e9:,.0f} billion weights", "choose fewer channels or layers")
        if size % 2 == 0:  # torch would pad one side only, on a copy of the feature map
            problem = "is even: it has no centre, so every layer would shift the feature map by half a pixel"
            raise MkfaError(f"--kernel {size}", problem, f"choose {size - 1} or {size + 1}")
    if branch_gain is not None:
        if name is None or name.kind == "convmixer":
            problem = "has no branches whose initial gain could be chosen"
            raise MkfaError(arch, problem, "use --branch-gain with resmixer_C_L or convnext_C_L only")
        if not 0 < branch_gain < math.inf:
            problem = "is not an initial weight from which a branch can learn"
            raise MkfaError(f"--branch-gain {branch_gain:g}", problem, "choose a number above 0, such as 0.3")
    return name


def _small(arch: str, name: Name, drop_path: float, asked: Mapping[str, Any], **options: Any) -> Any:
    """Build the network of one resolution with that name; in `asked`, options of `build_network`, None is a default."""
    made = {key: getattr(name.defaults, key) if value is None else value for key, value in asked.items()}
    options |= {"kernel_size": made["kernel"], "patch_size": made["patch"]}
    if name.kind == "convmixer":
        from timm.models.convmixer import ConvMixer

        model = ConvMixer(name.width, name.layers, **options)
        _add_drop_path(model, drop_path)
        return model
    import timm

    from mkfa.networks.registry import register

    register(arch)
    return timm.create_model(arch, branch_gain=made["branch_gain"], drop_path_rate=drop_path, **options)


def _add_drop_path(model: Any, rate: float) -> None:
    """Add stochastic depth, which timm's class lacks, to a ConvMixer's residual branches; it adds no parameters."""
    from timm.layers.drop import DropPath

    if rate:
        for i, block in enumerate(model.blocks):
            block[0].fn.append(DropPath(rate * i / max(1, len(model.blocks) - 1)))


def _timm(arch: str, *, classes: int, channels: int, size: int, drop_path: float) -> Any:
    import timm

    from mkfa.networks.hornet import plain_name, register

    register()
    arch = plain_name(arch)
    if not timm.is_model(arch):
        raise unknown_network(arch, timm.list_models())
    options: dict[str, Any] = {"num_classes": classes, "in_chans": channels}
    if drop_path:
        options["drop_path_rate"] = drop_path
    config = timm.get_pretrained_cfg(arch)
    if config is not None and config.fixed_input_size:
        options["img_size"] = size
    try:
        return timm.create_model(arch, pretrained=False, **options)
    except TypeError as error:
        if "drop_path_rate" in str(error):
            raise MkfaError(arch, "has no stochastic depth", "set drop_path to 0 in the recipe") from error
        raise MkfaError(arch, f"cannot be built with {options} ({error})", "choose another architecture") from error
    except (ValueError, RuntimeError, AssertionError) as error:
        raise MkfaError(arch, f"cannot be built for {size} px ({error})", "choose another size or network") from error


def unknown_network(arch: str, known: Sequence[str]) -> UnknownNameError:
    """Return the error for a name that is neither one of timm's nor that of a network of one resolution."""
    remedy = nearest(arch, known) or f"choose from timm.list_models(), {FORMS}"
    return UnknownNameError(arch, "unknown architecture: neither one of timm's nor of one resolution", remedy)


def _fit_stem(arch: str, model: Any, stride: int | None, size: int) -> None:
    """Set the stride of the first convolution (in every branch); see the module's docstring."""
    import torch

    first = model.pretrained_cfg.get("first_conv") or ()
    for name in as_several(first):
        conv = model.get_submodule(name)
        if not isinstance(conv, torch.nn.Conv2d):
            continue
        old = conv.stride[0]
        new = stride if stride is not None else (max(1, old // 2) if size <= SMALL else old)
        if new != old:
            _set_stride(model, name, new)
        stride = stride if stride is not None else new
    if not first and stride is not None:
        raise MkfaError(arch, "does not declare its first convolution", "leave --stem-stride out")


def _set_stride(model: Any, name: str, stride: int) -> None:
    import torch

    conv = model.get_submodule(name)
    if conv.kernel_size[0] != conv.stride[0]:
        conv.stride = (stride, stride)
        return
    fresh = torch.nn.Conv2d(conv.in_channels, conv.out_channels, stride, stride, bias=conv.bias is not None)
    with torch.no_grad():
        torch.nn.init.trunc_normal_(fresh.weight, std=float(conv.weight.std()))
        if fresh.bias is not None:
            fresh.bias.zero_()
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, leaf, fresh)


def _check_takes(arch: str, model: Any) -> None:
    """Refuse a network that does not accept the images, before training starts."""
    import torch

    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *model.image_shape, device="cpu"))
    except (RuntimeError, ValueError, AssertionError) as error:
        shape = "x".join(str(n) for n in model.image_shape)
        problem = f"does not accept images of {shape} ({str(error).splitlines()[0][:120]})"
        smaller = "--patch" if find_small(arch) else "--stem-stride"
        raise MkfaError(arch, problem, f"choose a larger size, a smaller {smaller} or another network") from error
    finally:
        model.train(training)
