"""The labelled image sets that mkfa knows by name, and where they lie on this machine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from mkfa.frozen import FrozenDict
from mkfa.storage.folders import home as home

How = Literal["bundled", "torchvision", "lists", "folders", "build"]

NATURAL = ((0, 397), (936, 958), (970, 970), (972, 998))
"""Natural classes of ILSVRC-2012, zero-based in WordNet-id order, ranges inclusive: 449; the other 551 are man-made.

Source: Yosinski et al. 2014 (arXiv 1411.1792), whose split the paper takes over."""


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """What is known of a domain before it is read.

    Attributes
    ----------
    name, title : str
    how : str
        "bundled" in the package; "torchvision": that library's loader; "lists": files named in text files;
        "folders": train/ and val/ with a folder a class; "build": `python -m mkfa.bundling.images`.
    classes, train, test : int
        Numbers of classes and of images on either side; 0 where not known before the images are listed.
    size : int
        Side to which images are decoded where no other is asked for, pixels.
    channels : int
        1 for truly gray images, else 3.
    licence : str
    folder : str
        Name of the data set's folder below `datasets_folder()`; several domains may share one.
    fetch : str
        What the user runs, or where to go, to get it; {root} stands for the folder.
    megabytes : int
        Size of what is fetched, roughly.
    """

    name: str
    title: str
    how: How
    classes: int
    train: int
    test: int
    size: int
    channels: int
    licence: str
    folder: str = ""
    fetch: str = ""
    megabytes: int = 0

    @property
    def state(self) -> str:
        """ "bundled", "packed at 64, 224 px", "here" (images, not packed) or "missing"."""
        if self.how == "bundled":
            return "bundled"
        pattern = re.compile(re.escape(file_name(self.name, 0)).replace("0", r"(\d+)"))
        folder = self.packed(0).parent
        names = [pattern.fullmatch(p.name) for p in folder.glob("domain_*.h5")] if folder.is_dir() else []
        if sizes := sorted(int(match[1]) for match in names if match):
            return f"packed at {', '.join(map(str, sizes))} px"
        return "here" if self.how != "build" and self.root.is_dir() else "missing"

    @property
    def root(self) -> Path:
        """Where the data set is looked for."""
        return datasets_folder() / (self.folder or self.name)

    def packed(self, size: int) -> Path:
        """Where `mkfa domains pack` puts this domain at a size, and where it is looked for."""
        return datasets_folder() / "packed" / file_name(self.name, size)

    @property
    def remedy(self) -> str:
        """What to do when the data set is missing, with its size."""
        size = f" (about {self.megabytes:,} MB)" if self.megabytes else ""
        return f"{self.fetch.format(root=self.root)}{size}"


def file_name(name: str, size: int) -> str:
    """Return the name of a domain's file at a size, in the package and in the user's folder alike."""
    return f"domain_{name}_{size}.h5"


def datasets_folder() -> Path:
    """Return the folder with the data sets of this machine, one folder each."""
    return home() / "datasets"


def _fetched(call: str) -> str:
    return f"run: mkdir -p {{root}} && python -c 'import torchvision.datasets as d; d.{call}'"


_IMAGENET = (
    "get ILSVRC-2012 from https://image-net.org (registration needed) and unpack it to {root}/train/WNID/*.JPEG and"
    " {root}/val/WNID/*.JPEG"
)
_RESEARCH = "research use; rights stay with the images' owners"

_OTHERS = (
    DomainInfo(
        "food",
        "Food-101",
        "torchvision",
        101,
        75750,
        25250,
        224,
        3,
        _RESEARCH,
        fetch=_fetched('Food101("{root}", download=True)'),
        megabytes=4996,
    ),
    DomainInfo(
        "pets",
        "Oxford-IIIT Pets, trainval / test",
        "torchvision",
        37,
        3680,
        3669,
        224,
        3,
        "CC-BY-SA-4.0",
        fetch=_fetched('OxfordIIITPet("{root}", download=True)'),
        megabytes=811,
    ),
    DomainInfo(
        "flowers",
        "Oxford 102 Flowers, train + val / test",
        "torchvision",
        102,
        2040,
        6149,
        224,
        3,
        _RESEARCH,
        fetch=_fetched('Flowers102("{root}", download=True)'),
        megabytes=345,
    ),
    DomainInfo(
        "sketch",
        "DomainNet sketch",
        "lists",
        345,
        48212,
        20916,
        224,
        3,
        "research use (DomainNet fair use)",
        fetch="get sketch.zip, sketch_train.txt and sketch_test.txt from http://ai.bu.edu/M3SDA/ and unpack"
        " them to {root}/sketch/CLASS/*.jpg, {root}/sketch_train.txt, {root}/sketch_test.txt",
        megabytes=2600,
    ),
    DomainInfo(
        "cifar10",
        "CIFAR-10",
        "torchvision",
        10,
        50000,
        10000,
        32,
        3,
        _RESEARCH,
        fetch=_fetched('CIFAR10("{root}", download=True)'),
        megabytes=170,
    ),
    DomainInfo(
        "stl10",
        "STL-10, labelled part",
        "torchvision",
        10,
        5000,
        8000,
        96,
        3,
        _RESEARCH,
        fetch=_fetched('STL10("{root}", download=True)'),
        megabytes=2640,
    ),
    DomainInfo(
        "imagenet",
        "ImageNet-1k (ILSVRC-2012)",
        "folders",
        1000,
        1281167,
        50000,
        224,
        3,
        _RESEARCH,
        fetch=_IMAGENET,
        megabytes=154600,
    ),
    DomainInfo(
        "imagenet-manmade",
        "ImageNet-1k, man-made half",
        "folders",
        551,
        0,
        27550,
        224,
        3,
        _RESEARCH,
        folder="imagenet",
        fetch=_IMAGENET,
        megabytes=154600,
    ),
    DomainInfo(
        "imagenet-natural",
        "ImageNet-1k, natural half",
        "folders",
        449,
        0,
        22450,
        224,
        3,
        _RESEARCH,
        folder="imagenet",
        fetch=_IMAGENET,
        megabytes=154600,
    ),
    DomainInfo(
        "photos",
        "patches of 32 wallpaper photographs",
        "build",
        32,
        4096,
        1024,
        32,
        3,
        "GPL-2+, CC-BY-4.0, CC-BY-SA-3.0/4.0, CC0 (by photograph)",
        folder="packed",
        fetch="run: python -m mkfa.bundling.images --only photos --out {root}",
        megabytes=168,
    ),
)


@lru_cache(maxsize=1)
def bundled_domains() -> FrozenDict[str, Any]:
    """Return data/domains.json: name -> file, classes, sizes, licence, source, split rule, digests, how made."""
    found = json.loads(files("mkfa.data").joinpath("domains.json").read_text("utf-8"))
    return FrozenDict(found["domains"])


@lru_cache(maxsize=1)
def registry() -> FrozenDict[str, DomainInfo]:
    """Return every domain by name: the paper's, then the bundled ones from large to small, then those to build."""
    bundled = {
        name: DomainInfo(
            name,
            e["title"],
            "bundled",
            len(e["classes"]),
            e["train"],
            e["test"],
            e["size"],
            e["channels"],
            e["licence"],
            fetch=e["made"],
        )
        for name, e in bundled_domains().items()
    }
    others = {info.name: info for info in _OTHERS}
    built = {name: others.pop(name) for name in [n for n in others if others[n].how == "build"]}
    return FrozenDict(others | bundled | built)
