"""mkfa: how general are the filters that a network learned?

Filter banks
    `harvest` collects the depthwise filters of a trained network, `harvest_all` those of several; `list_banks`,
    `load_bank`, `read_bank`, `write_bank`. Wherever a bank is wanted, a name, a path or a bank will do.
Questions about filters
    How alike are two networks' (`compare`), several (`compare_many`), groups (`compare_groups`)? Which patterns do they
    follow (`assign`), which groups do they form (`build_atlas`), how few explain all (`find_keys`), how many of others
    does a network need (`graft`), are they noise or copies (`layer_quality`)? `write_report` writes a page on all.
Transfer
    `list_domains`, `load_domain`, `describe_domain` and `pack_domain` are about labelled images; `train`, `transfer`,
    `transfer_curve`, `transfer_sweep` and `transfer_matrix` train networks; `read_runs` lists what was trained.
The paper
    `claims`, `check_claims`, `run_claims`, `reproduce`, `paper_costs`.
Parts of your own
    `register` an Arm, a Null or a Measure.

Results print in one line, show as a table in notebooks, and have `to_dict`, `to_arrays`, `to_frame` (pandas) and `save`
(.json, .csv, .h5). A request that cannot be carried out raises `MkfaError`, one sentence. Options have the names of the
command line. `help(mkfa.compare)` explains a verb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face
from mkfa.version import VERSION

if TYPE_CHECKING:
    from mkfa.arms.arms import Arm as Arm
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
    from mkfa.clusters.atlas import Atlas as Atlas
    from mkfa.clusters.atlas import build_atlas as build_atlas
    from mkfa.clusters.keys import Keys as Keys
    from mkfa.clusters.keys import find_keys as find_keys
    from mkfa.errors import MkfaError as MkfaError
    from mkfa.evidence.costs import Costs as Costs
    from mkfa.evidence.costs import paper_costs as paper_costs
    from mkfa.evidence.reproduction import Reproduction as Reproduction
    from mkfa.evidence.verbs import check_claims as check_claims
    from mkfa.evidence.verbs import claims as claims
    from mkfa.evidence.verbs import reproduce as reproduce
    from mkfa.evidence.verbs import run_claims as run_claims
    from mkfa.evidence.verdict import Claims as Claims
    from mkfa.experiments.planning import Plan as Plan
    from mkfa.experiments.verbs import train as train
    from mkfa.experiments.verbs import transfer as transfer
    from mkfa.experiments.verbs import transfer_curve as transfer_curve
    from mkfa.experiments.verbs import transfer_matrix as transfer_matrix
    from mkfa.experiments.verbs import transfer_sweep as transfer_sweep
    from mkfa.grafts.grafting import graft as graft
    from mkfa.grafts.result import Graft as Graft
    from mkfa.images.domain import Domain as Domain
    from mkfa.images.load import describe_domain as describe_domain
    from mkfa.images.load import list_domains as list_domains
    from mkfa.images.load import load_domain as load_domain
    from mkfa.images.load import pack_domain as pack_domain
    from mkfa.images.registry import DomainList as DomainList
    from mkfa.nulls.draws import Null as Null
    from mkfa.patterns.assigning import assign as assign
    from mkfa.patterns.assignment import Assignment as Assignment
    from mkfa.readers.collect import Harvests as Harvests
    from mkfa.readers.collect import harvest_all as harvest_all
    from mkfa.readers.harvesting import harvest as harvest
    from mkfa.report.writing import Report as Report
    from mkfa.report.writing import write_report as write_report
    from mkfa.results.curve import Curve as Curve
    from mkfa.results.matrix import Matrix as Matrix
    from mkfa.results.record import RunList as RunList
    from mkfa.results.record import RunRecord as RunRecord
    from mkfa.results.runs import read_runs as read_runs
    from mkfa.results.sweep import Sweep as Sweep
    from mkfa.results.table import Scenarios as Scenarios
    from mkfa.similarity.comparing import compare as compare
    from mkfa.similarity.comparing import compare_many as compare_many
    from mkfa.similarity.comparison import Comparison as Comparison
    from mkfa.similarity.group_comparison import GroupComparison as GroupComparison
    from mkfa.similarity.groups import compare_groups as compare_groups
    from mkfa.similarity.matrix import Comparisons as Comparisons
    from mkfa.similarity.measures.table import Measure as Measure
    from mkfa.tables import register as register
    from mkfa.training.result import RunResult as RunResult
    from mkfa.training.spec import RunSpec as RunSpec

__version__ = VERSION
__getattr__, __dir__, __all__ = face(__name__, __file__)
