"""mkfa: how general are the filters that a network learned?

Only types and read/write are here, loaded when first used; verbs live in modules of the same name,
e.g. `from mkfa.similarity.compare import compare`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mkfa.version import VERSION

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank, FilterGroup, Kind, Layer, Provenance
    from mkfa.banks.bank_file import read_bank, write_bank
    from mkfa.errors import MkfaError


__version__ = VERSION
__all__ = ["FilterBank", "FilterGroup", "Kind", "Layer", "MkfaError", "Provenance", "read_bank", "write_bank"]

_HOME = {"MkfaError": "mkfa.errors", "read_bank": "mkfa.banks.bank_file", "write_bank": "mkfa.banks.bank_file"}


def __getattr__(name: str) -> Any:
    # PEP 562: numpy and h5py take a tenth of a second, and `mkfa --help` needs neither
    if name in __all__:
        return getattr(import_module(_HOME.get(name, "mkfa.banks.bank")), name)
    raise AttributeError(f"module 'mkfa' has no attribute {name!r}")
