"""Harvest convnext_base from a hub with 20 ms latency: byte ranges against the whole file."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from job import Job

REPO = "timm/convnext_base.fb_in22k_ft_in1k"
LATENCY = 0.02
OURS = ["mkfa", "harvest", "convnext_base", "--out", "{work}/convnext_base.h5", "--force"]

DOWNLOAD = f"""
import h5py, sys
from huggingface_hub import hf_hub_download
from safetensors import safe_open
path = hf_hub_download({REPO!r}, "model.safetensors")
with safe_open(path, "numpy") as f, h5py.File(sys.argv[1], "w") as out:
    for key in f.keys():
        shape = f.get_slice(key).get_shape()
        if len(shape) == 4 and shape[1] == 1:
            out[key] = f.get_tensor(key)
    assert len(out) == 36
"""
TIMM = """
import h5py, sys, timm, torch
model = timm.create_model("convnext_base", pretrained=True)
with h5py.File(sys.argv[1], "w") as out:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1:
            out[name + ".weight"] = module.weight.detach().numpy()
    assert len(out) == 36
"""


def make_hub(work: Path) -> None:
    """A repository with a file of convnext_base's names, shapes and size (354 MB; large matrices are zeros)."""
    server = _server()
    target = work / "hub" / REPO / "model.safetensors"
    if not target.exists():
        server.write_safetensors(target, server.CONVNEXT_BASE)
    config = '{"architecture": "convnext_base", "num_classes": 1000, "pretrained_cfg": {"tag": "fb_in22k_ft_in1k"}}'
    (target.parent / "config.json").write_text(config)


def serve(rate: float) -> Callable[[Path], object]:
    """Return a context that serves the repository on the loopback interface to a client with an empty cache."""

    @contextlib.contextmanager
    def around(work: Path) -> Iterator[dict[str, str]]:
        server = _server().HubServer(work / "hub", delay=LATENCY, rate=rate)
        with server as hub, tempfile.TemporaryDirectory(dir=work) as home:
            yield {"HF_ENDPOINT": hub.url, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}

    return around


def _server():  # type: ignore[no-untyped-def]
    sys.path.insert(0, str(Path(__file__).parents[1] / "readers"))
    import hub_server

    return hub_server


NOTE = "20 ms added to every request, empty cache"
JOBS = [
    Job(
        "harvest convnext_base from a hub (against downloading the file and reading it)",
        OURS,
        ["{python}", "-c", DOWNLOAD, "{work}/all.h5"],
        limit_s=2,
        prepare=make_hub,
        around=serve(0),
        note=f"{NOTE}, bandwidth of the loopback interface",
    ),
    Job(
        "harvest convnext_base from a hub at 50 MB/s (against downloading the file and reading it)",
        OURS,
        ["{python}", "-c", DOWNLOAD, "{work}/all.h5"],
        limit_s=2,
        prepare=make_hub,
        around=serve(50e6),
        note=f"{NOTE}, at most 50 MB/s a connection",
    ),
    Job(
        "harvest convnext_base from a hub at 50 MB/s (against timm.create_model and a loop)",
        OURS,
        ["{python}", "-c", TIMM, "{work}/all.h5"],
        limit_s=2,
        prepare=make_hub,
        around=serve(50e6),
        note=f"{NOTE}, at most 50 MB/s a connection",
    ),
]
