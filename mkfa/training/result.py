"""The result of a finished run (standard library only)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run: the fields of result.json that mkfa reads, and the unchanged record.

    Attributes
    ----------
    state : str
        "done", or "diverged": from `step` on, the loss was NaN or infinite.
    top1_last, top1_best : float
        Test accuracy (0-1) of the last and the best epoch; NaN if the run diverged.
    chance : float
        Accuracy of guessing the most frequent class.
    loss_test, seconds, images_per_second : float or None
    test_images : int
    weights_sha256 : str
        Digest of the final weights.
    record : mapping
        All fields of result.json.
    """

    state: str
    top1_last: float = math.nan
    top1_best: float = math.nan
    chance: float = math.nan
    loss_test: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    test_images: int = 0
    step: int = -1
    weights_sha256: str = ""
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunResult:
        """Return the result recorded in a result.json; missing fields get their defaults."""
        return cls(
            **{key: record[key] for key in cls.__dataclass_fields__ if key in record and key != "record"}, record=record
        )

    @property
    def done(self) -> bool:
        """True if the run has an accuracy."""
        return self.state == "done"
