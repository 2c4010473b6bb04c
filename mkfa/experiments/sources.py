"""Sources of filters: a domain's base run, with the target's network or another one, or a bank.

**Another network.** `--source-arch` names the network that the source's base run is trained with. It gets the target's
recipe, so its images have the target's size, and those of the target's network options that apply to it: `--kernel` and
`--patch` if both are of one resolution (`mkfa.networks.names`), `--branch-gain` if they are of the same kind too,
`--stem-stride` for other networks. Options after the name, joined by colons, override them:
`resmixer_96_6:kernel=5:patch=4`, `resnet50:stem_stride=1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mkfa.banks.bank import FilterBank
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.networks.hornet import plain_name
from mkfa.training.folder import BANK, SPEC

OPTIONS = ("kernel", "patch", "stem_stride", "branch_gain")
"""Options that may follow the name of a source's network."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source of filters.

    Attributes
    ----------
    name : name of the domain or bank.
    domain : domain whose base run with the same seed provides the filters; "" for a bank.
    bank : provides the filters for all seeds.
    arch : network of the domain's base run as requested, e.g. "hornet_tiny"; "" for the target's own.
    options : options of that network.
    """

    name: str
    domain: str = ""
    bank: FilterBank | None = None
    arch: str = ""
    options: Mapping[str, float] = field(default_factory=lambda: FrozenDict({}))

    @property
    def network(self) -> str:
        """The other network's name without its options; "" for the target's own."""
        return plain_name(self.arch.partition(":")[0])


def find_sources(
    sources: str, *, what: str, networks: str = "", target: tuple[str, Mapping[str, float]] = ("", FrozenDict({}))
) -> tuple[Source, ...]:
    """Return every source with every network.

    Parameters
    ----------
    sources : names of domains, banks, checkpoints or folders of base runs, joined by commas; an existing path may
        contain commas.
    what : kind of layers to borrow.
    networks : names of the sources' networks, joined by commas; "" for the target's own.
    target : (str, mapping)
        The target's network and its options; a source's network inherits the options that apply to it.

    Raises MkfaError: as `find_source` and `parse_network`, or a network was named for a bank.
    """
    names = [sources] if Path(sources).expanduser().exists() else _split(sources, "--source")
    chosen = [find_source(name, what=what) for name in names]
    if not networks:
        return tuple(chosen)
    for source in chosen:
        if not source.domain:
            problem = f"says how a source is trained, and {source.name} is a bank"
            raise MkfaError("--source-arch", problem, "leave it out, or name a domain as the source")
    asked = [parse_network(text, target=target) for text in _split(networks, "--source-arch")]
    return tuple(
        Source(source.name, source.domain, None, text, options) for source in chosen for text, options in asked
    )


def find_source(name: str, *, what: str) -> Source:
    """Resolve a source's name: a domain (name, packed file, image folder), else a bank or checkpoint.

    The folder of a base run stands for its bank.

    Raises MkfaError: the name is unknown, or it is a bank and `what` is not "depthwise", or it is a run without a bank.
    """
    from mkfa.banks.library import load_bank
    from mkfa.images.load import is_domain
    from mkfa.readers.harvesting import harvest, is_path

    if is_domain(name):
        return Source(name, name)
    if what != "depthwise":
        problem = f"unknown domain, and a bank has no {what} filters"
        raise MkfaError(name, problem, "name a domain: filters are then borrowed from its base run")
    folder = Path(name).expanduser()
    if (folder / SPEC).is_file():
        if not (folder / BANK).is_file():
            problem = "is a run that keeps no filters: base runs of networks with depthwise layers do"
            raise MkfaError(name, problem, "name a base run that is done")
        name = str(folder / BANK)
    bank = harvest(name) if is_path(name) and not _is_bank(Path(name).expanduser()) else load_bank(name)
    return Source(bank.name, "", bank)


def _is_bank(path: Path) -> bool:
    """True for a path in .h5 that a bank is read from; Keras's checkpoints may end so too."""
    from mkfa.readers.graphs import keras

    return path.suffix == ".h5" and (not path.is_file() or keras.is_bank(path))


def parse_network(text: str, *, target: tuple[str, Mapping[str, float]]) -> tuple[str, Mapping[str, float]]:
    """Return the text and the options of a source's network; see above.

    Raises MkfaError: an unknown option, or a value that is not a number.
    """
    from mkfa.networks.build import find_small
    from mkfa.networks.names import without_defaults

    arch, *words = text.split(":")
    own, theirs = find_small(arch), find_small(target[0])
    kept: tuple[str, ...] = ("kernel", "patch") if own and theirs else () if own else ("stem_stride",)
    if theirs and not own:
        kept = ()  # the stem stride of a patch stem does not apply to the stem of another network
    if own and theirs and own.kind == theirs.kind:
        kept = (*kept, "branch_gain")
    options = {key: value for key, value in target[1].items() if key in kept}
    for word in words:
        key, _, value = word.partition("=")
        whole = key != "branch_gain"
        if key not in OPTIONS or not re.fullmatch(r"\d+" if whole else r"\d+(\.\d*)?|\.\d+", value):
            problem = f"has {word!r} where an option is expected"
            raise MkfaError(f"--source-arch {text}", problem, f"write it like {arch}:kernel=5, of {', '.join(OPTIONS)}")
        options[key] = int(value) if whole else float(value)
    return text, without_defaults(arch, options)


def _split(text: str, option: str) -> Sequence[str]:
    """Return the unique names in a text, in order."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if "" in names:
        raise MkfaError(f"{option} {text!r}", "has an empty name in it", "join names by single commas")
    return names
