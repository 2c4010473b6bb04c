"""Harvest local checkpoints of convnext_base (354 MB): against timm, torch.load and a loop over the modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from job import Job

MAKE = """
import sys, timm, torch
from safetensors.torch import save_file
torch.manual_seed(0)
state = timm.create_model("convnext_base").state_dict()
save_file(state, sys.argv[1] + "/convnext_base.safetensors")
torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, sys.argv[1] + "/training.pth")
"""


def make_checkpoints(work: Path) -> None:
    """convnext_base with timm's initial weights, as safetensors and as a training checkpoint.

    In a process of its own: a command that is measured inherits the peak memory of the process that starts it.
    """
    if not (work / "training.pth").exists():
        subprocess.run([sys.executable, "-c", MAKE, str(work)], check=True)


def ours(name: str) -> list[str]:
    return ["mkfa", "harvest", "{work}/" + name, "--out", "{work}/ours.h5", "--force"]


LOOP = """
with h5py.File(sys.argv[2], "w") as out:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1:
            out[name + ".weight"] = module.weight.detach().numpy()
    assert len(out) == 36
"""
TIMM = "import h5py, sys, timm, torch\nmodel = timm.create_model('convnext_base', checkpoint_path=sys.argv[1])" + LOOP
LOAD = """
import h5py, sys, torch
state = torch.load(sys.argv[1], weights_only=True, mmap=True, map_location="cpu")
state = state.get("state_dict", state)
with h5py.File(sys.argv[2], "w") as out:
    for key, value in state.items():
        if value.ndim == 4 and value.shape[1] == 1:
            out[key] = value.numpy()
    assert len(out) == 36
"""

JOBS = [
    Job(
        "harvest a local safetensors file of convnext_base (against timm.create_model and a loop)",
        ours("convnext_base.safetensors"),
        ["{python}", "-c", TIMM, "{work}/convnext_base.safetensors", "{work}/all.h5"],
        limit_s=1.5,
        limit_mb=300,
        prepare=make_checkpoints,
        note="the SHA-256 of the 354 MB included",
    ),
    Job(
        "harvest a local PyTorch file of convnext_base (against torch.load with mmap and a loop)",
        ours("training.pth"),
        ["{python}", "-c", LOAD, "{work}/training.pth", "{work}/all.h5"],
        limit_s=1.5,
        limit_mb=300,
        prepare=make_checkpoints,
        note="the SHA-256 of the 354 MB included",
    ),
]
