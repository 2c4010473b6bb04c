"""Twenty vocabularies in MobileNetV2, against a plain loop that sets the filters and asks again.

`python tests/benchmarks/bench_graft.py [--images 64] [--vocabularies 20] [--layers all]`: CPU seconds of one thread for
the same answers, start-up excluded, and their ratio. The plain loop decodes, prepares and asks the unchanged network
again for each vocabulary, as a script would. The weights are untrained, which does not matter to the speed. Images are
JPEG files of 320 pixels.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

JOBS: list[Any] = []
"""Nothing here is a process of its own; run this file."""


def make_images(folder: Path, count: int) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((320, 320), Image.Resampling.BICUBIC).save(folder / f"{i:04}.jpg", quality=90)


def plain_loop(network: Any, folder: Path, fillings: list[dict[str, Any]], transform: Any) -> list[float]:
    """Return the agreement with each filling: name of a module -> its filters."""
    import torch
    from PIL import Image

    found = []
    for filling in fillings:
        changed = copy.deepcopy(network)
        for name, weight in filling.items():
            changed.get_submodule(name).weight.data = weight
        same = 0
        files = sorted(folder.iterdir())
        with torch.inference_mode():
            for start in range(0, len(files), 32):
                pictures = [transform(Image.open(path).convert("RGB")) for path in files[start : start + 32]]
                images = torch.stack(pictures)
                same += int((network(images).argmax(1) == changed(images).argmax(1)).sum())
        found.append(same / len(files))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--vocabularies", type=int, default=20)
    parser.add_argument("--layers", default="all")
    options = parser.parse_args()

    import torch
    from run import machine
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    from mkfa.grafts.asking import ask
    from mkfa.grafts.pictures import Reader, find_pictures
    from mkfa.grafts.preprocessing import of_torchvision
    from mkfa.grafts.program import build_program
    from mkfa.readers.modules import depthwise_modules

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = mobilenet_v2().eval()
    names = [name for name, _ in depthwise_modules(network)]
    chosen = names if options.layers == "all" else [names[int(n) - 1] for n in options.layers.split(",")]
    fillings = []
    for _ in range(options.vocabularies):
        fillings.append({n: 0.1 * torch.randn_like(network.get_submodule(n).weight) for n in chosen})
    transform = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make_images(folder, options.images)
        start = time.process_time()
        expected = plain_loop(network, folder, fillings, transform)
        loop = time.process_time() - start
        start = time.process_time()
        pictures = find_pictures(folder)
        reader = Reader(pictures, of_torchvision(MobileNet_V2_Weights.IMAGENET1K_V1).make(), threads=1)
        (_, example), *_ = reader.batches(range(2), 2)
        program = build_program(network, names, device=torch.device("cpu"), example=example)
        keys = [(0,) * len(names)] + [
            tuple(i + 1 if n in chosen else 0 for n in names) for i in range(options.vocabularies)
        ]
        answers = ask(
            program,
            keys,
            lambda layer, number: fillings[number - 1][names[layer]][:, 0].numpy(),
            batches=reader.batches(range(len(pictures)), 32),
            advance=lambda _: None,
        )
        ours = time.process_time() - start
    apart = max(abs(a - b) for a, b in zip(answers.agree[1:].mean(1), expected, strict=True))
    print(f"{machine()}; torch {torch.__version__}, one thread")
    what = f"{options.vocabularies} vocabularies, {options.images} images, layers {options.layers}"
    print(f"{what}: plain loop {loop:.1f} s, mkfa {ours:.1f} s of CPU time, {loop / ours:.1f}x")
    print(
        f"{1e3 * ours / options.images / options.vocabularies:.1f} ms an image and vocabulary; agreements differ by",
        apart,
    )


if __name__ == "__main__":
    main()
