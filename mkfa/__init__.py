"""mkfa: how general are the filters that a network learned?

Only types and read/write are here; verbs live in modules of the same name, e.g. `from mkfa.compare import compare`.
"""

from mkfa.bank import FilterBank, FilterGroup, Kind, Layer, Provenance
from mkfa.errors import MkfaError
from mkfa.store import read_bank, write_bank

__version__ = "0.1.0"
__all__ = ["FilterBank", "FilterGroup", "Kind", "Layer", "MkfaError", "Provenance", "read_bank", "write_bank"]
