"""The domains of a command, by name or path, each opened once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mkfa.array_types import I64, U8
from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.images.registry import bundled_domains, images_of, registry
from mkfa.progress import Progress

if TYPE_CHECKING:
    from mkfa.images.load import DomainFacts


class Domains:
    """Domains by name or path, at the recipe's size. A domain opened by path is also found by its own name.

    Parameters
    ----------
    size, max_size, crop_from, eval_size : pixels, as in `mkfa.images.load.load_to_train`.
    notify, progress : as in `mkfa.images.load.load_domain`.
    decode : if False, a domain that is not packed yet is replaced by black images and has no digest.
    absent : if True, so is a domain that mkfa knows and that is not on this machine: plans can be made without it.
    """

    def __init__(
        self,
        size: int,
        max_size: int,
        *,
        crop_from: int = 0,
        eval_size: int = 0,
        notify: Callable[[str], object] | None = None,
        progress: Progress = None,
        decode: bool = True,
        absent: bool = False,
    ) -> None:
        self.size, self.max_size, self.decode, self.absent = size, max_size, decode and not absent, absent
        self.crop_from, self.eval_size = crop_from, eval_size
        self._sizes = {"size": size, "max_size": max_size, "crop_from": crop_from, "eval_size": eval_size}
        self._notify, self._progress = notify, progress
        self.before_packing: Callable[[], object] | None = None
        """Called once, before images are packed for the first time; an exception that it raises prevents that."""
        self._read: dict[str, Domain] = {}
        self._named: dict[str, tuple[str, Domain]] = {}

    def __getitem__(self, name: str) -> Domain:
        """Return a domain.

        Raises MkfaError: as `mkfa.images.load.load_domain`; or two different domains have the same name, by which runs
        refer to them.
        """
        if name in self._read:
            return self._read[name]
        if name in self._named and name not in bundled_domains():
            return self._named[name][1]
        from mkfa.images.load import load_to_train

        if not self.decode and not (facts := self.facts(name)).digest:
            domain = _stand_in(facts)
        else:
            domain = load_to_train(name, **self._sizes, notify=self._say, progress=self._progress)
        asked, other = self._named.setdefault(domain.name, (name, domain))
        if other.digest != domain.digest:
            problem = f"has the same name ({domain.name}) as {asked}, but different images"
            raise MkfaError(name, problem, "rename one of them: a domain is named after its folder")
        self._read[name] = domain
        return domain

    def _say(self, sentence: str) -> None:
        """Pass a sentence on. The first one that comes says that a domain is about to be packed."""
        before, self.before_packing = self.before_packing, None
        if before is not None:
            before()
        if self._notify is not None:
            self._notify(sentence)

    def facts(self, name: str) -> DomainFacts:
        """Return a domain's properties without decoding it; raises the same errors as `self[name]`."""
        from mkfa.images.domain_file import DomainError
        from mkfa.images.load import DomainFacts, facts_to_train

        try:
            return facts_to_train(name, **self._sizes)
        except DomainError:
            info = registry().get(name)
            if not self.absent or info is None:
                raise
            size = self.size or min(info.size, self.max_size or info.size)
            return DomainFacts(info.name, tuple(map(str, range(info.classes))), *images_of(name), size)

    def asked_as(self, name: str) -> str:
        """Return the name or path from which a domain was read, so that another process can read it."""
        return self._named[name][0] if name in self._named else name


def _stand_in(facts: DomainFacts) -> Domain:
    """Return a domain of black images that use no memory."""
    import numpy as np

    def images(count: int) -> tuple[U8, I64]:
        black = np.broadcast_to(np.uint8(0), (count, facts.size, facts.size, 3))
        return black, np.broadcast_to(np.int64(0), (count,))

    return Domain(facts.name, facts.classes, *images(facts.train), *images(facts.test), digest="")
