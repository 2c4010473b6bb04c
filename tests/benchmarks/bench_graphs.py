"""Harvest an ONNX model of 767 MB, one per cent of it depthwise: against onnx.load and its own decoder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from job import Job

MAKE = """
import sys
import numpy as np
from onnx import TensorProto, helper, numpy_helper
rng = np.random.default_rng(0)
nodes, tensors = [], []
for i in range(40):
    tensors.append(numpy_helper.from_array(rng.standard_normal((1536, 3072, 1, 1), np.float32), f"p{i}"))
    tensors.append(numpy_helper.from_array(rng.standard_normal((1536, 1, 7, 7), np.float32), f"d{i}"))
    nodes.append(helper.make_node("Conv", [f"x{i}", f"p{i}"], [f"a{i}"]))
    nodes.append(helper.make_node("Conv", [f"a{i}", f"d{i}"], [f"x{i + 1}"], group=1536))
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x0", "x40")]
model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors))
with open(sys.argv[1], "wb") as f:
    f.write(model.SerializeToString())
"""

LOOP = """
import sys
import h5py, onnx
from onnx import numpy_helper
graph = onnx.load(sys.argv[1]).graph
weights = {tensor.name: tensor for tensor in graph.initializer}
with h5py.File(sys.argv[2], "w") as out:
    for node in graph.node:
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        if node.op_type == "Conv" and group > 1:
            out[node.input[1]] = numpy_helper.to_array(weights[node.input[1]])[:, 0]
"""


def make_model(work: Path) -> None:
    """Write the model, in a process of its own (its memory is not to count)."""
    if not (work / "wide.onnx").exists():
        subprocess.run([sys.executable, "-c", MAKE, str(work / "wide.onnx")], check=True)


JOBS = [
    Job(
        name="harvest a local 767 MB ONNX model",
        ours=["mkfa", "harvest", "{work}/wide.onnx", "--out", "{work}/ours.h5", "--force"],
        alternative=["{python}", "-c", LOOP, "{work}/wide.onnx", "{work}/loop.h5"],
        prepare=make_model,
        note="ours includes the model's SHA-256",
    )
]
