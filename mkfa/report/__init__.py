"""What is known of some banks and runs, on one page? `write_report` writes it as HTML that opens from disk, without a
network.

`writing` has the verb. `inputs` sorts what was named, `analyses` takes stored analyses or computes missing ones,
`filters` packs weights, `comparisons`, `groups`, `keys`, `grafts`, `sweeps` and `verdicts` make the other parts, `html`
joins the page from the files in page/. `limits` says how much fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.report.writing import Report as Report
    from mkfa.report.writing import write_report as write_report

__getattr__, __dir__, __all__ = face(__name__, __file__)
