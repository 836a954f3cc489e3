"""The Rust surface; `mypy.stubtest yggdrasil._core` holds this page true. Documentation is on the doors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, final

__version__: Final[str]

# --- engines: yggdrasil.heidrun, yggdrasil.eikthyrnir, yggdrasil.scoring ---

__all__ = [
    "FEE_BASIS_POINTS_MAX",
    "FEE_BASIS_POINTS_MIN",
    "Change",
    "Counter",
    "Decision",
    "Estimate",
    "Quality",
    "Ranking",
    "Router",
    "Settlement",
    "Settlements",
    "__version__",
    "count",
    "count_many",
    "count_until",
    "encoding_for",
    "quote",
    "rank",
    "register",
    "score",
    "score_columns",
    "score_table",
    "settle",
    "settle_many",
    "tokens_affordable",
]  # a later section adds its own with +=

FEE_BASIS_POINTS_MIN: Final[int]
FEE_BASIS_POINTS_MAX: Final[int]

@final
class Settlement:
    @property
    def tokens(self) -> int: ...
    @property
    def total_microcents(self) -> int: ...
    @property
    def fee_microcents(self) -> int: ...
    @property
    def earnings_microcents(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def quote(
    tokens_max: int,
    price_cents: int,
    unit_tokens: int,
    fee_basis_points: int,
    rounding: str = "per_request",
) -> Settlement: ...
def settle(
    tokens: int,
    price_cents: int,
    unit_tokens: int,
    fee_basis_points: int,
    rounding: str = "per_request",
) -> Settlement: ...

@final
class Settlements:
    @property
    def total_microcents(self) -> memoryview[int]: ...
    @property
    def fee_microcents(self) -> memoryview[int]: ...
    @property
    def earnings_microcents(self) -> memoryview[int]: ...

def settle_many(
    tokens: object,
    price_cents: object,
    unit_tokens: int,
    fee_basis_points: object,
    rounding: str = "per_request",
) -> Settlements: ...
def tokens_affordable(
    budget_microcents: int, price_cents: int, unit_tokens: int, rounding: str = "per_request"
) -> int: ...
def encoding_for(model: str) -> tuple[str, bool]: ...
def register(model: str, tokenizer_json: bytes) -> None: ...
def count(model: str, text: str) -> int: ...
def count_many(model: str, texts: Iterable[str]) -> list[int]: ...
def count_until(model: str, text: str, limit: int) -> int | None: ...

@final
class Counter:
    def __new__(cls, model: str) -> Counter: ...
    def push(self, delta: str) -> int: ...
    def push_many(self, deltas: Iterable[str]) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def encoding(self) -> str: ...

@final
class Estimate:
    @property
    def mean(self) -> float: ...
    @property
    def weight(self) -> float: ...
    @property
    def variance(self) -> float: ...
    @property
    def lower_bound(self) -> float: ...
    @property
    def upper_bound(self) -> float: ...

# NumPy, Arrow, pandas, Polars, DuckDB, buffers, sequences: none of them is imported to name it.
_Column: TypeAlias = Any
_Table: TypeAlias = Any

@final
class Change:
    @property
    def provider(self) -> bytes: ...
    @property
    def metric(self) -> str: ...
    @property
    def before(self) -> float: ...
    @property
    def after(self) -> float: ...

@final
class Quality:
    def __new__(
        cls,
        *,
        half_life_ms: int = 86_400_000,
        z: float = 1.0,
        success_prior: tuple[float, float] = ...,
        quality_prior: tuple[float, float] = ...,
        latency_ms_prior: tuple[float, float] = ...,
        throughput_prior: tuple[float, float] = ...,
        providers_max: int = 1_000_000,
        quantiles: bool = False,
        notice_share: float | None = None,
        notice_ratio: float | None = None,
        rater_weight_max: float = 3.0,
        raters_max: int = 1_000_000,
    ) -> Quality: ...
    def __len__(self) -> int: ...
    def observe(
        self,
        provider: bytes,
        metric: str,
        value: float,
        *,
        at_ms: int,
        weight: float = 1.0,
        rater: bytes | None = None,
    ) -> Change | None: ...
    def observe_many(
        self,
        providers: _Column,
        metric: str,
        values: _Column,
        *,
        at_ms: int | _Column,
        weights: _Column | None = None,
    ) -> list[Change]: ...
    def handles(self, keys: _Column) -> _Column: ...
    def quantile(self, provider: bytes, metric: str, rank: float) -> float | None: ...
    def trimmed_mean(self, provider: bytes, metric: str, trim: float = 0.05) -> float | None: ...
    def snapshot(self) -> bytes: ...
    @staticmethod
    def restore(snapshot: bytes) -> Quality: ...
    @property
    def memory_bytes(self) -> int: ...
    def estimate(self, provider: bytes, metric: str, *, at_ms: int) -> Estimate: ...
    def merge(self, other: Quality) -> None: ...
    def remove(self, provider: bytes) -> bool: ...
    def prune(self, *, at_ms: int, weight_min: float) -> int: ...

@final
class Ranking:
    def __len__(self) -> int: ...
    @property
    def rows(self) -> _Column: ...
    @property
    def scores(self) -> _Column: ...
    @property
    def parts(self) -> list[dict[str, float]]: ...
    def _repr_html_(self) -> str: ...

def score(
    price: float,
    quality: float,
    latency_ms: float,
    availability: float,
    work: float,
    *,
    price_reference: float,
    latency_reference_ms: float,
    work_reference: float,
) -> float: ...
def score_table(
    table: _Table,
    *,
    price_reference: float | None = None,
    latency_reference_ms: float | None = None,
    work_reference: float,
    references: dict[str, tuple[float, float]] | None = None,
    missing: str = "error",
    out: _Column | None = None,
) -> _Column: ...
def rank(
    table: _Table,
    k: int,
    *,
    price_reference: float | None = None,
    latency_reference_ms: float | None = None,
    work_reference: float,
    references: dict[str, tuple[float, float]] | None = None,
    missing: str = "error",
) -> Ranking: ...
def score_columns(
    price: Sequence[float],
    quality: Sequence[float],
    latency_ms: Sequence[float],
    availability: Sequence[float],
    work: Sequence[float],
    *,
    price_reference: float,
    latency_reference_ms: float,
    work_reference: float,
) -> list[float]: ...

@final
class Decision:
    @property
    def key(self) -> bytes | None: ...
    @property
    def group(self) -> bytes | None: ...
    @property
    def owner(self) -> bytes | None: ...
    @property
    def explored(self) -> bool: ...
    @property
    def propensity(self) -> float | None: ...
    @property
    def feasible(self) -> int: ...
    @property
    def gates(self) -> dict[str, int]: ...
    def card(self) -> bytes: ...
    def _repr_html_(self) -> str: ...

@final
class Router:
    def __new__(
        cls,
        *,
        price_reference: float = 100_000_000.0,
        latency_reference_ms: float = 1_000.0,
        work_reference_tokens: float = 100_000.0,
        work_half_life_ms: int = 600_000,
        band_width: float = 0.05,
        explore_ppm: int = 15_000,
        breaker_failures: int = 5,
        breaker_open_ms: int = 10_000,
        breaker_open_ms_max: int = 300_000,
        quality_prior: float = 0.5,
        availability_prior: float = 0.5,
        offers_max: int = 1_000_000,
        newcomer_ppm: int = 0,
        breaker_window: int = 0,
        breaker_successes: int = 1,
        breaker_tested_apart: bool = False,
        weights: Mapping[str, float] | Sequence[float] | None = None,
        turn_times_max: int = 8,
    ) -> Router: ...
    @property
    def weights(self) -> dict[str, float]: ...
    def __len__(self) -> int: ...
    def upsert(
        self,
        *,
        key: bytes,
        owner: bytes,
        group: bytes,
        model: str,
        price_microcents: int,
        context_tokens: int,
        capacity: int,
        visibility: str = "market",
        group_capacity: int | None = None,
        output_tokens: int | None = None,
    ) -> None: ...
    def remove(self, key: bytes) -> bool: ...
    def set_online(self, key: bytes, online: bool) -> bool: ...
    def set_open(self, key: bytes, open: bool) -> bool: ...  # noqa: A002
    def set_estimates(
        self, key: bytes, *, quality: float, latency_ms: float, availability: float
    ) -> bool: ...
    def set_references(self, model: str, *, price_reference: float, latency_reference_ms: float) -> None: ...
    def tick(self, now_ms: int, *, offers_max: int | None = None) -> bool: ...
    def pick(
        self,
        *,
        model: str,
        network: bytes,
        scope: str,
        context_tokens: int,
        now_ms: int,
        seed: int,
        work_tokens: int | None = None,
        price_microcents_max: int | None = None,
        only: Sequence[bytes] | None = None,
        ignore: Sequence[bytes] | None = None,
        tried: Sequence[bytes] | None = None,
        output_tokens: int | None = None,
        prefer: bytes | None = None,
    ) -> Decision: ...
    def pick_many(
        self,
        *,
        model: str,
        network: bytes,
        scope: str,
        context_tokens: int,
        now_ms: int,
        seeds: Sequence[int],
        work_tokens: int | None = None,
        price_microcents_max: int | None = None,
        only: Sequence[bytes] | None = None,
        ignore: Sequence[bytes] | None = None,
        tried: Sequence[bytes] | None = None,
        output_tokens: int | None = None,
        prefer: bytes | None = None,
    ) -> list[tuple[bytes, bool, float] | None]: ...
    def snapshot(self) -> bytes: ...
    @staticmethod
    def restore(snapshot: bytes) -> Router: ...
    def release(self, key: bytes) -> bool: ...
    def load(self, group: bytes) -> int: ...
    def report(self, group: bytes, ok: bool, now_ms: int) -> None: ...
    def report_owner(self, owner: bytes, ok: bool, now_ms: int) -> None: ...
    def take_tallies(self) -> list[tuple[bytes, int, int, float, dict[str, int]]]: ...
    def take_asked(self) -> tuple[int, dict[bytes, int]]: ...
    def medians(self) -> list[tuple[str, float, float]]: ...
    def breaker_state(self, group: bytes, now_ms: int) -> Literal["closed", "open", "half_open"]: ...

# --- relay: yggdrasil.bifrost ---

__all__ += ["Relay", "relay_facts"]

_Effect: TypeAlias = (
    tuple[Literal["wake"], int]
    | tuple[Literal["authenticate"], int, str, str, str, bytes]
    | tuple[Literal["directory"], int, int]
    | tuple[Literal["exists"], int, int, str]
    | tuple[Literal["presence"], int, bool]
    | tuple[Literal["close"], int, int, str]
    | tuple[Literal["job"], int]
)
_JobEnd: TypeAlias = (
    tuple[Literal["busy"], str] | tuple[Literal["done"], int, int] | tuple[Literal["fault"], str, str]
)
_JobBatch: TypeAlias = tuple[bool, list[bytes], _JobEnd | None]

@final
class Relay:
    def __new__(cls, **settings: int) -> Relay: ...
    def open(self, now_ms: int, nonce: bytes) -> tuple[int, list[_Effect]]: ...
    def receive_text(self, session: int, frame: str, now_ms: int) -> list[_Effect]: ...
    def receive_binary(self, session: int, frame: bytes, now_ms: int) -> list[_Effect]: ...
    def closed(self, session: int, now_ms: int) -> list[_Effect]: ...
    def end(self, session: int, code: int, now_ms: int) -> list[_Effect]: ...
    def authenticated(
        self,
        session: int,
        now_ms: int,
        *,
        network_id: bytes,
        user_id: bytes,
        device: bytes,
        device_id: str,
        session_id: bytes | None,
        key_id: bytes | None,
    ) -> list[_Effect]: ...
    def refused(self, session: int, code: int, now_ms: int) -> list[_Effect]: ...
    def directory(
        self, ticket: int, devices: Sequence[tuple[str, str, str]] | None, now_ms: int
    ) -> list[_Effect]: ...
    def exists(self, ticket: int, found: bool | None, now_ms: int) -> list[_Effect]: ...
    def poll_transmit(self, session: int, now_ms: int) -> str | bytes | None: ...
    def next_timeout(self) -> int | None: ...
    def on_timeout(self, now_ms: int) -> list[_Effect]: ...
    def open_job(
        self,
        now_ms: int,
        *,
        network_id: bytes,
        device: bytes,
        job: str,
        kind: str,
        model: str,
        body: bytes,
        deadline_ms: int,
    ) -> tuple[int | None, list[_Effect]]: ...
    def take_job(self, job: int, now_ms: int) -> tuple[_JobBatch | None, list[_Effect]]: ...
    def cancel_job(self, job: int, now_ms: int) -> list[_Effect]: ...
    def event(
        self, network_id: bytes, device: bytes, name: str, data: str, now_ms: int
    ) -> tuple[bool, list[_Effect]]: ...
    def revoke(
        self,
        now_ms: int,
        *,
        network_id: bytes | None,
        user_id: bytes | None,
        device: bytes | None,
        session_id: bytes | None,
        key_id: bytes | None,
    ) -> tuple[int, list[_Effect]]: ...
    def drain(self, reconnect_after_ms: int, now_ms: int) -> list[_Effect]: ...
    def online(self, network_id: bytes, device: bytes) -> bool: ...
    def rtt_ms(self, session: int) -> int | None: ...
    def counts(self) -> tuple[int, int]: ...

def relay_facts() -> dict[str, object]: ...
