"""Labelled image sets on disk and in memory: list them (`list_domains`), pack folders of images (`pack_domain`), open
them (`load_domain`), describe them (`describe_domain`; without decoding: `domain_facts`), and augment batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.images.domain import Domain as Domain
    from mkfa.images.load import describe_domain as describe_domain
    from mkfa.images.load import domain_facts as domain_facts
    from mkfa.images.load import list_domains as list_domains
    from mkfa.images.load import load_domain as load_domain
    from mkfa.images.load import pack_domain as pack_domain
    from mkfa.images.registry import DomainList as DomainList

__getattr__, __dir__, __all__ = face(__name__, __file__)
