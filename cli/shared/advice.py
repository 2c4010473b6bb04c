"""Better advice for an unknown name: only the command line knows image sets and timm's catalogue too."""

from __future__ import annotations

from mkfa.errors import MkfaError, UnknownBankError, UnknownNameError


def about_bank(error: UnknownBankError) -> UnknownNameError:
    """Return the error for a name that is not a bank, with the command that gets one where there is such a command."""
    from mkfa.images.registry import registry
    from mkfa.readers.timm.catalogue import resolve

    name = error.name
    if name in registry():
        return UnknownNameError(
            name,
            "is a domain, and no bank of a network trained on it is in the library",
            f"train one, mkfa train {name}, or harvest a checkpoint, mkfa harvest CHECKPOINT --name {name}",
        )
    try:
        resolve(name)
    except MkfaError:
        return error
    return UnknownNameError(name, "is a timm network that has not been harvested yet", f"run mkfa harvest {name}")
