"""The domains that a command was given, by name or path, each opened once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.images.registry import bundled_domains


class Domains:
    """Domains by name or path, at the size that a recipe wants; a run's domain is found by its own name too.

    Parameters
    ----------
    size, max_size : pixels, as in `mkfa.images.load.load_to_train`.
    tell, progress : as in `mkfa.images.load.load_domain`; None is silent.
    """

    def __init__(
        self, size: int, max_size: int, *, tell: Callable[[str], None] | None = None, progress: Any = None
    ) -> None:
        self.size, self.max_size = size, max_size
        told = (("tell", tell), ("progress", progress))
        self._told: dict[str, Any] = {key: value for key, value in told if value is not None}
        self._read: dict[str, Domain] = {}
        self._named: dict[str, tuple[str, Domain]] = {}

    def __getitem__(self, name: str) -> Domain:
        """Return a domain.

        Raises
        ------
        MkfaError
            As `mkfa.images.load.load_domain`; or it is called as another one that was given, and runs know
            their domains by name.
        """
        if name in self._read:
            return self._read[name]
        if name in self._named and name not in bundled_domains():
            return self._named[name][1]
        from mkfa.images.load import load_to_train

        found = load_to_train(name, size=self.size, max_size=self.max_size, **self._told)
        asked, other = self._named.setdefault(found.name, (name, found))
        if other.digest != found.digest:
            problem = f"is called {found.name} as {asked} is, and holds other images"
            raise MkfaError(name, problem, "rename one of them: a domain is called after its folder")
        self._read[name] = found
        return found

    def asked_as(self, name: str) -> str:
        """Return the name or path under which the domain of this name was read, for another process to read it."""
        return self._named[name][0] if name in self._named else name
