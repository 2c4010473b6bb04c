"""The labelled image sets that mkfa knows by name, and where they are stored."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from mkfa.frozen import FrozenDict
from mkfa.storage.folders import data_file
from mkfa.storage.folders import home as home
from mkfa.storage.records import Listing
from mkfa.words import counted

How = Literal["bundled", "torchvision", "lists", "folders", "build"]

NATURAL = ((0, 397), (936, 958), (970, 970), (972, 998))
"""Natural classes of ILSVRC-2012, zero-based in WordNet-id order, ranges inclusive: 449; the other 551 are man-made.

Source: Yosinski et al. 2014 (arXiv 1411.1792), whose split the paper uses."""


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """Properties of a domain that are known before it is read; those not bundled are listed in known.toml.

    Attributes
    ----------
    name, title : str
    how : "bundled": in the package; "torchvision": that library's loader; "lists": files listed in text files;
        "folders": train/ and val/ with one folder per class; "build": `python -m mkfa.bundling.images`.
    classes : int
    size : default size to which images are decoded, pixels.
    train, test : numbers of images; 0 if unknown before the images are listed.
    channels : 1 for gray images, else 3.
    licence : str
    folder : name of the data set's folder below `datasets_folder()`; several domains may share one.
    fetch : command or place to get the data set; {root} stands for the folder.
    megabytes : approximate download size.
    """

    name: str
    title: str
    how: How
    classes: int
    size: int
    train: int = 0
    test: int = 0
    channels: int = 3
    licence: str = "research use; rights stay with the images' owners"
    folder: str = ""
    fetch: str = ""
    megabytes: int = 0

    @property
    def state(self) -> str:
        """ "bundled", "packed at 64, 224 px", "here" (images, not packed) or "missing"."""
        if self.how == "bundled":
            return "bundled"
        pattern = re.compile(rf"domain_{re.escape(self.name)}_(\d+)(?:_from_(\d+))?(?:_eval_\d+)?\.h5")
        folder = self.packed(0).parent
        names = [pattern.fullmatch(p.name) for p in folder.glob("domain_*.h5")] if folder.is_dir() else []
        if sizes := sorted({(int(match[1]), int(match[2] or 0)) for match in names if match}):
            texts = [f"{size}" + (f" (crops from {larger})" if larger else "") for size, larger in sizes]
            return f"packed at {', '.join(texts)} px"
        return "here" if self.how != "build" and self.root.is_dir() else "missing"

    @property
    def root(self) -> Path:
        """Where the data set is expected."""
        return datasets_folder() / (self.folder or self.name)

    def packed(self, size: int, crop_from: int = 0, *, eval_size: int = 0) -> Path:
        """Where `mkfa domains pack` stores this domain at a size, and where it is expected."""
        return datasets_folder() / "packed" / file_name(self.name, size, crop_from, eval_size=eval_size)

    @property
    def remedy(self) -> str:
        """How to get the data set if it is missing, with its size."""
        size = f" (about {self.megabytes:,} MB)" if self.megabytes else ""
        return f"{self.fetch.format(root=self.root)}{size}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DomainList(Listing[DomainInfo]):
    """The domains that mkfa knows by name."""

    KIND: ClassVar[str] = "domain_list"
    domains: tuple[DomainInfo, ...]

    def headline(self) -> str:
        """Return how many domains there are, and how many of them can be read at once."""
        states = [info.state for info in self]
        return (
            f"{counted(len(self), 'domain')}, {states.count('bundled')} bundled and {states.count('missing')} not here"
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a domain; `fetch` says how to get it."""
        same = ("name", "title", "classes", "train", "test", "size", "channels", "licence", "state", "root")
        known = {"train": None, "test": None, "megabytes": None}
        return [
            {key: getattr(info, key) for key in same}
            | {key: getattr(info, key) or None for key in known}
            | {"fetch": info.remedy}
            for info in self
        ]


def file_name(name: str, size: int, crop_from: int = 0, *, eval_size: int = 0) -> str:
    """Return the file name of a domain at a size, both in the package and in the user's folder.

    Earlier versions left `eval_size` out of it.

    Examples
    --------
    >>> file_name("pets", 64), file_name("pets", 224, 448, eval_size=256)
    ('domain_pets_64.h5', 'domain_pets_224_from_448_eval_256.h5')
    """
    parts = [f"_from_{crop_from}"] * bool(crop_from) + [f"_eval_{eval_size}"] * bool(eval_size)
    return f"domain_{name}_{size}{''.join(parts)}.h5"


def datasets_folder() -> Path:
    """Return the folder with this machine's data sets, one subfolder each."""
    return home() / "datasets"


@lru_cache(maxsize=1)
def bundled_domains() -> FrozenDict[str, Any]:
    """Return data/domains.json: name -> file, classes, sizes, licence, source, split rule, digests, build command."""
    return FrozenDict(json.loads(data_file("domains.json").read_text("utf-8"))["domains"])


@lru_cache(maxsize=1)
def registry() -> FrozenDict[str, DomainInfo]:
    """Return every domain by name: the paper's, then the bundled ones from large to small, then those to be built."""
    known = tomllib.loads(files("mkfa.images").joinpath("known.toml").read_text("utf-8"))
    listed = {name: DomainInfo(name, **facts) for name, facts in known.items()}
    bundled = {
        name: DomainInfo(
            name,
            e["title"],
            "bundled",
            classes=len(e["classes"]),
            size=e["size"],
            train=e["train"],
            test=e["test"],
            channels=e["channels"],
            licence=e["licence"],
            fetch=e["made"],
        )
        for name, e in bundled_domains().items()
    }
    built = {name: info for name, info in listed.items() if info.how == "build"}
    return FrozenDict({name: info for name, info in listed.items() if name not in built} | bundled | built)


def images_of(domain: str) -> tuple[int, int]:
    """Return the numbers of training and test images of a domain; those of half of ImageNet by its share of classes.

    Examples
    --------
    >>> images_of("pets"), images_of("imagenet-natural")
    ((3680, 3669), (575244, 22450))
    """
    info = registry()[domain]
    if info.train or not info.folder:
        return info.train, info.test
    whole = registry()[info.folder]
    return round(whole.train * info.classes / whole.classes), info.test
