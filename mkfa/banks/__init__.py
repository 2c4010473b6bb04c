"""The filter bank of a network, its file, its canonical form, and the library of banks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank as FilterBank
    from mkfa.banks.bank import FilterGroup as FilterGroup
    from mkfa.banks.bank import Kind as Kind
    from mkfa.banks.bank import Layer as Layer
    from mkfa.banks.bank import Provenance as Provenance
    from mkfa.banks.bank_file import read_bank as read_bank
    from mkfa.banks.bank_file import write_bank as write_bank
    from mkfa.banks.library import BankList as BankList
    from mkfa.banks.library import list_banks as list_banks
    from mkfa.banks.library import load_bank as load_bank
    from mkfa.banks.quality import LayerQualities as LayerQualities
    from mkfa.banks.quality import layer_quality as layer_quality

__getattr__, __dir__, __all__ = face(__name__, __file__)
