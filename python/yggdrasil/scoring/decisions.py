"""The log of decisions: what was chosen, with what probability, among whom, and what came of it.

A decision card of the router is one entry; its outcome is added when it is known. The log is kept in memory
and goes to and from Parquet, one row a decision, candidates as a nested list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from yggdrasil.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa

PARTS: Final = ("price", "quality", "latency", "availability", "fairness")
DECISIONS_MAX: Final = 10_000_000
CANDIDATES_MAX: Final = 1_000


Parts = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that could have been chosen: its five parts, each 0 to 1, in the order of `PARTS`."""

    key: str
    parts: Parts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision; costs in micro-cents, times in milliseconds, NaN for what is not known."""

    ok: bool
    cost_microcents: int = 0
    latency_ms: float = math.nan
    quality: float = math.nan


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """`propensity` is the probability, in (0, 1], with which `candidates[chosen]` was picked. `feasible`
    counts all who passed the gates: if there were more than are listed, the log is cut short there.
    `weights` are those of the five parts, in the order of `PARTS`, as the router had them; None if the card
    does not say."""

    at_ms: int
    chosen: int
    propensity: float
    explored: bool
    feasible: int
    candidates: tuple[Candidate, ...]
    outcome: Outcome | None = None
    weights: Parts | None = None

    @property
    def whole(self) -> bool:
        """Whether everybody who could have been chosen is listed."""
        return self.feasible <= len(self.candidates)


class DecisionLog:
    """Decisions in the order in which they were added; at most `DECISIONS_MAX`."""

    def __init__(self, decisions: Iterable[LoggedDecision] = ()) -> None:
        self._decisions = list(decisions)

    def __len__(self) -> int:
        return len(self._decisions)

    def __iter__(self) -> Iterator[LoggedDecision]:
        return iter(self._decisions)

    def __getitem__(self, index: int) -> LoggedDecision:
        return self._decisions[index]

    def add(self, card: bytes | str | Mapping[str, Any], outcome: Outcome | None = None) -> None:
        """Append a decision card, as `Decision.card()` gives it.

        Raises InvalidInput, and adds nothing, for what is none: the field and the rule are named."""
        if len(self._decisions) >= DECISIONS_MAX:
            raise InvalidInput(f"log: holds at most {DECISIONS_MAX} decisions", field="log")
        self._decisions.append(_decision(_object(card), outcome))

    def to_arrow(self) -> pa.Table:
        """One row a decision. Needs pyarrow."""
        pa = _pyarrow()
        rows = [
            {
                "at_ms": one.at_ms,
                "chosen": one.chosen,
                "propensity": one.propensity,
                "explored": one.explored,
                "feasible": one.feasible,
                "candidates": [
                    {"key": candidate.key, **dict(zip(PARTS, candidate.parts, strict=True))}
                    for candidate in one.candidates
                ],
                "outcome": None
                if one.outcome is None
                else {name: getattr(one.outcome, name) for name in Outcome.__slots__},
                "weights": None if one.weights is None else dict(zip(PARTS, one.weights, strict=True)),
            }
            for one in self._decisions
        ]
        return pa.Table.from_pylist(rows, schema=_schema(pa))

    def to_parquet(self, path: str | Path) -> None:
        """Write the log. Needs pyarrow."""
        import pyarrow.parquet as pq

        pq.write_table(self.to_arrow(), path, compression="zstd")

    @classmethod
    def from_arrow(cls, table: pa.Table) -> DecisionLog:
        """A log from a table of the columns that `to_arrow` writes. InvalidInput names the row at fault."""
        if table.num_rows > DECISIONS_MAX:
            raise InvalidInput(f"log: holds at most {DECISIONS_MAX} decisions", field="log")
        # Older logs say nothing of weights.
        needed = [name for name in _schema(_pyarrow()).names if name != "weights"]
        missing = [name for name in needed if name not in table.column_names]
        if missing:
            raise InvalidInput(f"log: has no column {missing[0]}", field=missing[0])
        log = cls()
        for number, row in enumerate(table.to_pylist()):
            try:
                log._decisions.append(_decision(row, _known(row["outcome"])))
            except InvalidInput as error:
                raise InvalidInput(f"row {number}: {error}", field=error.field) from None
            except (TypeError, KeyError) as error:
                raise InvalidInput(f"row {number}: outcome: {error}", field="outcome") from None
        return log

    @classmethod
    def from_parquet(cls, path: str | Path) -> DecisionLog:
        """Read a log. InvalidInput for a file that is none; FileNotFoundError. Needs pyarrow."""
        pa = _pyarrow()
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise InvalidInput(f"path: holds no Parquet: {error}", field="path") from None
        return cls.from_arrow(table)


def _object(card: bytes | str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(card, bytes | str):
        try:
            card = json.loads(card)
        except ValueError as error:
            raise InvalidInput(f"card: is no JSON: {error}", field="card") from None
    if not isinstance(card, Mapping):
        raise InvalidInput("card: must be an object", field="card")
    return card


def _decision(card: Mapping[str, Any], outcome: Outcome | None) -> LoggedDecision:
    at_ms = card["at_ms"] if "at_ms" in card else _field(card, "now_ms")
    listed = _field(card, "candidates")
    if not isinstance(listed, list) or not 1 <= len(listed) <= CANDIDATES_MAX:
        raise InvalidInput(f"candidates: must be 1 to {CANDIDATES_MAX}", field="candidates")
    candidates = tuple(_candidate(one, number) for number, one in enumerate(listed))
    chosen = _field(card, "chosen")
    if isinstance(chosen, str):
        keys = [candidate.key for candidate in candidates]
        if chosen not in keys:
            raise InvalidInput("chosen: is none of the candidates", field="chosen")
        chosen = keys.index(chosen)
    if not isinstance(chosen, int) or not 0 <= chosen < len(candidates):
        raise InvalidInput("chosen: must be the place of a candidate", field="chosen")
    propensity = _number(card, "propensity")
    if not 0 < propensity <= 1:
        raise InvalidInput("propensity: must be above 0 and at most 1", field="propensity")
    feasible = _field(card, "feasible")
    if not isinstance(feasible, int) or feasible < 1:
        raise InvalidInput("feasible: must be at least 1", field="feasible")
    if not isinstance(at_ms, int):
        raise InvalidInput("at_ms: must be whole milliseconds", field="at_ms")
    return LoggedDecision(
        at_ms,
        chosen,
        propensity,
        bool(_field(card, "explored")),
        feasible,
        candidates,
        None if outcome is None else _outcome(outcome),
        _weights(card.get("weights")),
    )


def _known(row: Mapping[str, Any] | None) -> Outcome | None:
    """The outcome of a row, whose latency and quality may be null."""
    if row is None:
        return None
    unknown = {name for name in ("latency_ms", "quality") if row[name] is None}
    return Outcome(**{name: value for name, value in row.items() if name not in unknown})


def _outcome(given: Outcome) -> Outcome:
    """The same in Python's own types: NumPy's are taken, too."""
    ok: Any = given.ok
    cost: Any = given.cost_microcents
    measured: dict[str, Any] = {"latency_ms": given.latency_ms, "quality": given.quality}
    if not isinstance(ok, bool) and str(getattr(ok, "dtype", None)) != "bool":
        raise InvalidInput("outcome.ok: must be true or false", field="ok")
    if isinstance(cost, bool) or not isinstance(cost, Integral) or not 0 <= int(cost) < 2**63:
        raise InvalidInput(
            "outcome.cost_microcents: must be whole and from 0 to 2^63 - 1", field="cost_microcents"
        )
    for name, value in measured.items():
        if isinstance(value, bool) or not isinstance(value, Real) or math.isinf(value):
            raise InvalidInput(f"outcome.{name}: must be a finite number, or NaN if not known", field=name)
    if given.latency_ms < 0:
        raise InvalidInput("outcome.latency_ms: must be at least 0", field="latency_ms")
    return Outcome(bool(ok), int(cost), float(given.latency_ms), float(given.quality))


def _weights(given: Any) -> Parts | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InvalidInput("weights: must be an object", field="weights")
    price, quality, latency, availability, fairness = (_number(given, name) for name in PARTS)
    weights = (price, quality, latency, availability, fairness)
    if min(weights) < 0 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise InvalidInput("weights: must be at least 0 and add up to 1", field="weights")
    return weights


def _candidate(one: Mapping[str, Any], number: int) -> Candidate:
    if not isinstance(one, Mapping):
        raise InvalidInput(f"candidates[{number}]: must be an object", field="candidates")
    parts = tuple(_number(one, name) for name in PARTS)
    for name, part in zip(PARTS, parts, strict=True):
        if not 0 <= part <= 1:
            raise InvalidInput(f"candidates[{number}].{name}: must be from 0 to 1", field=name)
    price, quality, latency, availability, fairness = parts
    return Candidate(str(_field(one, "key")), (price, quality, latency, availability, fairness))


def _field(card: Mapping[str, Any], name: str) -> Any:
    if name not in card or card[name] is None:
        raise InvalidInput(f"{name}: is missing", field=name)
    return card[name]


def _number(card: Mapping[str, Any], name: str) -> float:
    value = _field(card, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{name}: must be a finite number", field=name)
    return float(value)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "a decision log as Arrow or Parquet needs pyarrow: install the extra `data`"
        ) from error
    return pyarrow


def _schema(pa: Any) -> Any:
    parts = [(name, pa.float64()) for name in PARTS]
    candidate = pa.struct([("key", pa.string()), *parts])
    outcome = pa.struct(
        [
            ("ok", pa.bool_()),
            ("cost_microcents", pa.int64()),
            ("latency_ms", pa.float64()),
            ("quality", pa.float64()),
        ]
    )
    return pa.schema(
        [
            ("at_ms", pa.int64()),
            ("chosen", pa.int32()),
            ("propensity", pa.float64()),
            ("explored", pa.bool_()),
            ("feasible", pa.int64()),
            ("candidates", pa.list_(candidate)),
            ("outcome", outcome),
            ("weights", pa.struct(parts)),
        ]
    )
