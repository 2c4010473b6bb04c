"""mkfa: how general are the filters that a network learned?

Only types and read/write are here, loaded when first used; verbs live in modules of the same name,
e.g. `from mkfa.similarity.compare import compare`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank, FilterGroup, Kind, Layer, Provenance
    from mkfa.errors import MkfaError
    from mkfa.storage.result_files import read_bank, write_bank

__version__ = "0.1.0"
__all__ = ["FilterBank", "FilterGroup", "Kind", "Layer", "MkfaError", "Provenance", "read_bank", "write_bank"]

_HOME = {
    "MkfaError": "mkfa.errors",
    "read_bank": "mkfa.storage.result_files",
    "write_bank": "mkfa.storage.result_files",
}


def __getattr__(name: str) -> Any:
    # PEP 562: numpy and h5py take a tenth of a second, and `mkfa --help` needs neither
    if name in __all__:
        return getattr(import_module(_HOME.get(name, "mkfa.banks.bank")), name)
    raise AttributeError(f"module 'mkfa' has no attribute {name!r}")
