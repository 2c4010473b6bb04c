"""Which of the paper's claims hold? `claims` lists them with the verdicts known so far, `check_claims` judges them from
banks and runs that are there, `run_claims` trains what is missing first, `reproduce` puts the paper's printed values
beside those of runs, and `paper_costs` says what the paper's own runs would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.evidence.costs import Costs as Costs
    from mkfa.evidence.costs import paper_costs as paper_costs
    from mkfa.evidence.reproduction import Reproduction as Reproduction
    from mkfa.evidence.verbs import check_claims as check_claims
    from mkfa.evidence.verbs import claims as claims
    from mkfa.evidence.verbs import reproduce as reproduce
    from mkfa.evidence.verbs import run_claims as run_claims
    from mkfa.evidence.verdict import Claims as Claims

__getattr__, __dir__, __all__ = face(__name__, __file__)
