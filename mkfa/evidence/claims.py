"""The claims and their criteria, read from claims.toml (standard library only).

Criteria are data: a claim is a sentence and two lists of statements, each of a rule that `mkfa.evidence.statements`
interprets. They are fixed before the runs are seen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError, as_text, nearest
from mkfa.evidence.programme import SCALES, programme
from mkfa.frozen import FrozenDict
from mkfa.several import as_several

FILE = "claims.toml"
RULES = (
    *("above", "below", "within", "slope", "kept", "knee", "straight", "trend", "rank", "ordered"),
    *("share", "likeness", "agreement"),
)
BANK_RULES = ("share", "likeness", "agreement")
"""Rules about banks and grafts, which need no runs."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a criterion; claims.toml says which fields a rule uses.

    Attributes
    ----------
    rule : one of `RULES`.
    of, than : arms.
    margin : points of top-1; of rank, rho; of agreement, percent.
    over : "mean" (all targets), "every" or "any" of the units.
    by : unit, "target" or "pair" of source and target.
    low, high, layers, shape : of kept (percent) and knee (layers, of a network of `layers` layers; 0: as they are).
    side : of rank, agreement, share "above" or "below"; of likeness "closer" or "parent".
    flat, falls : of trend and ordered, the opposite statement.
    """

    rule: str
    of: str = ""
    than: str = ""
    margin: float | None = None
    over: str = "mean"
    by: str = "target"
    low: float = 0.0
    high: float = 0.0
    layers: int = 0
    shape: str = ""
    side: str = "above"
    flat: bool = False
    falls: bool = False

    def __post_init__(self) -> None:
        texts = {"rule": RULES, "over": ("mean", "every", "any"), "by": ("target", "pair")}
        texts["side"] = ("above", "below", "closer", "parent")
        for name, known in texts.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that runs or banks can support or contradict, with its criterion.

    Attributes
    ----------
    id, sentence, source, number : what is claimed, where, and the number printed there.
    supports : all of these must hold.
    contradicts : one of these suffices.
    margin, seeds, sensitivity, controls : defaults of the file, in points, seeds, standard errors, arms.
    units : targets or pairs that a verdict needs, by scale.
    what : kind of layers that the arms set.
    order : sources from the one that should give the worst filters to the one that should give the best.
    tuned : fields of the recipe of which each arm takes its best value.
    other_architectures : whether stacked filters count only if they are of another architecture's network.
    printed : which printed numbers are judged by the same rules.
    runs : entries of the programme that give the runs.
    at : scales at which the claim can be judged; default: those that all its entries have.
    command : what gives the evidence of a claim without runs.
    """

    id: str
    sentence: str
    source: str
    number: str
    supports: tuple[Statement, ...]
    contradicts: tuple[Statement, ...]
    margin: float
    seeds: int
    sensitivity: float
    controls: tuple[str, ...]
    units: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))
    what: str = "depthwise"
    order: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    other_architectures: bool = False
    printed: Mapping[str, Any] = field(default_factory=lambda: FrozenDict({}))
    runs: tuple[str, ...] = ()
    at: tuple[str, ...] = ()
    command: str = ""

    @property
    def statements(self) -> tuple[Statement, ...]:
        """All statements, those that support first."""
        return (*self.supports, *self.contradicts)

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that the statements are about, without the baseline."""
        names = dict.fromkeys(name for s in self.statements for name in (s.of, s.than))
        return tuple(name for name in names if name and name != "baseline" and not self.about_banks)

    @property
    def about_banks(self) -> bool:
        """True if the claim is judged from banks or grafts instead of runs."""
        return self.supports[0].rule in BANK_RULES

    @property
    def scales(self) -> tuple[str, ...]:
        """Scales at which the claim can be judged."""
        known = [programme()[name].runs for name in self.runs]
        return tuple(s for s in self.at or SCALES if known and all(s in runs for runs in known))

    def margin_of(self, statement: Statement) -> float:
        """Return a statement's margin, by default the claim's."""
        return self.margin if statement.margin is None else statement.margin


@lru_cache(maxsize=1)
def all_claims() -> FrozenDict[str, Claim]:
    """Return the claims by id, in order.

    Examples
    --------
    >>> claims = all_claims()
    >>> claims["C12"].sentence
    'Learned filters of another domain are better than random ones.'
    >>> [statement.rule for statement in claims["C1"].supports]
    ['within', 'slope']
    """
    return parse_claims(files("mkfa.evidence").joinpath(FILE).read_text("utf-8"))


def parse_claims(text: str) -> FrozenDict[str, Claim]:
    """Read claims from TOML.

    Raises MkfaError: the text is not TOML, or an entry lacks a field, has an unknown one, or names an unknown rule or
    scale.
    """
    try:
        content = tomllib.loads(text)
        shared = {key: content[key] for key in ("margin", "seeds", "sensitivity", "controls")}
        made = [_claim({**shared, **entry}) for entry in content["claim"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MkfaError(FILE, f"does not describe claims ({error})", "correct the file") from None
    if len({claim.id for claim in made}) < len(made):
        raise MkfaError(FILE, "has two claims with the same id", "correct the file")
    return FrozenDict({claim.id: claim for claim in made})


def find_claims(ids: str | Sequence[str] = ()) -> tuple[Claim, ...]:
    """Return claims by their ids, joined by commas or in a list; none means all. "C8" means C8a and C8b.

    Raises UnknownNameError: an id is unknown.

    Examples
    --------
    >>> [claim.id for claim in find_claims("c12, C8")]
    ['C12', 'C8a', 'C8b']
    """
    known = all_claims()
    words = [word.strip() for text in as_several(ids) for word in as_text(text, "claims", "an id").split(",")]
    chosen: dict[str, Claim] = {}
    for word in filter(None, words):
        asked = (word.lower(), f"c{word.lower()}")
        found = [claim for name, claim in known.items() if name.lower() in asked]
        found = found or [claim for name, claim in known.items() if name[-1].isalpha() and name[:-1].lower() in asked]
        if not found:
            remedy = nearest(word.upper(), known) or f"the claims are {', '.join(known)}"
            raise UnknownNameError(word, "unknown claim", remedy)
        chosen |= {claim.id: claim for claim in found}
    return tuple(chosen.values()) if chosen else tuple(known.values())


def _claim(entry: Mapping[str, Any]) -> Claim:
    values: dict[str, Any] = dict(entry)
    known = {f.name for f in fields(Claim)}
    needed = {f.name for f in fields(Claim) if f.default is MISSING and f.default_factory is MISSING}
    if unknown := set(values) - known:
        raise ValueError(f"{values.get('id')}: unknown field {', '.join(sorted(unknown))}")
    if lacking := needed - set(values):
        raise ValueError(f"{values.get('id')}: lacks {', '.join(sorted(lacking))}")
    for key in ("supports", "contradicts"):
        values[key] = tuple(Statement(**statement) for statement in values[key])
    for key in ("controls", "order", "tuned", "runs", "at"):
        values[key] = tuple(values.get(key, ()))
    for key in ("printed", "units"):
        values[key] = FrozenDict(values.get(key, {}))
    if unknown := {*values["at"], *values["units"]} - set(SCALES):
        raise ValueError(f"{values['id']}: unknown scale {', '.join(sorted(unknown))}")
    if unknown := set(values["runs"]) - set(programme()):
        raise ValueError(f"{values['id']}: {', '.join(sorted(unknown))} is not in the programme")
    return Claim(**values)
