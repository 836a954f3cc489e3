"""Pure parts of a compute request: its wishes, and the table of its transaction's states. No I/O, no
clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import UUID

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import MICROCENTS_MAX, MICROCENTS_PER_CENT

Kind = Literal["chat", "embeddings"]
MarketScope = Literal["own", "network", "market"]

DEADLINE_SECONDS_DEFAULT: Final = 120
DEADLINE_SECONDS_MAX: Final = 600
OFFERS_LISTED_MAX: Final = 64
OUTPUT_TOKENS_DEFAULT: Final = 4_096
OUTPUT_TOKENS_MAX: Final = 1_000_000
IDEMPOTENCY_KEY_LENGTH_MAX: Final = 128
MODEL_LENGTH_MAX: Final = 128
PRICE_TOKENS: Final = 1_000_000
PRICE_CENTS_MAX: Final = 1_000_000


class State(StrEnum):
    """The six states of a transaction."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.PROCESSING, State.FAILED, State.CANCELLED}),
    State.PROCESSING: frozenset({State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.COMPLETED: frozenset({State.REFUNDED}),
    # Cancelled after something was delivered may have cost something.
    State.CANCELLED: frozenset({State.REFUNDED}),
    State.FAILED: frozenset(),
    State.REFUNDED: frozenset(),
}
"""The one table along which a transaction moves."""


def sources(target: State) -> list[str]:
    """The states from which `target` may be reached: what an UPDATE asks for in its WHERE."""
    return [state.value for state, targets in TRANSITIONS.items() if target in targets]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the requester wants of the route. The highest price is micro-cents per 1,000,000 tokens."""

    scope: MarketScope = "market"
    max_cost_microcents: int | None = None
    max_price_microcents: int | None = None
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    deadline_seconds: int = DEADLINE_SECONDS_DEFAULT


def wishes_from(
    *,
    scope: MarketScope = "market",
    max_cost_cents: int | None = None,
    max_cost_microcents: int | None = None,
    max_price_cents: int | None = None,
    only: list[str] | None = None,
    ignore: list[str] | None = None,
    deadline_seconds: int | None = None,
) -> Wishes:
    """Wishes out of what a caller wrote; InvalidInput names the field and its rule. `max_price_cents` is
    per 1,000 tokens; `only` and `ignore` are offers as `GET /api/v1/marketplace/providers` shows them."""
    if scope not in ("own", "network", "market"):
        raise InvalidInput("scope: must be own, network or market", field="scope")
    if max_cost_cents is not None and max_cost_microcents is not None:
        raise InvalidInput(
            "max_cost_microcents: must not stand beside max_cost_cents", field="max_cost_microcents"
        )
    cost = _microcents(max_cost_cents, MICROCENTS_PER_CENT, "max_cost_cents")
    if cost is None:
        cost = _microcents(max_cost_microcents, 1, "max_cost_microcents")
    for name, offers in (("only", only), ("ignore", ignore)):
        if offers is not None and len(offers) > OFFERS_LISTED_MAX:
            raise InvalidInput(f"{name}: must list at most {OFFERS_LISTED_MAX} offers", field=name)
        if any(len(offer) > 64 for offer in offers or ()):
            raise InvalidInput(f"{name}: must list offers such as offer_<32 hex digits>", field=name)
    seconds = DEADLINE_SECONDS_DEFAULT if deadline_seconds is None else deadline_seconds
    if not 1 <= seconds <= DEADLINE_SECONDS_MAX:
        raise InvalidInput(f"deadline_seconds: must be 1 to {DEADLINE_SECONDS_MAX}", field="deadline_seconds")
    return Wishes(
        scope=scope,
        max_cost_microcents=cost,
        max_price_microcents=_microcents(
            max_price_cents, MICROCENTS_PER_CENT * (PRICE_TOKENS // 1_000), "max_price_cents"
        ),
        only=tuple(only or ()),
        ignore=tuple(ignore or ()),
        deadline_seconds=seconds,
    )


def _microcents(value: int | None, factor: int, name: str) -> int | None:
    if value is None:
        return None
    if not 0 <= value <= MICROCENTS_MAX // factor:
        raise InvalidInput(f"{name}: must be 0 to {MICROCENTS_MAX // factor}", field=name)
    return value * factor


@dataclass(frozen=True, slots=True)
class ComputeRequest:
    """One request as the service runs it. `body` is what the provider gets, less the cap on its output;
    `prompt` are
    the texts whose tokens are paid for, `overhead_tokens` what the chat format adds to them."""

    kind: Kind
    model: str
    body: Mapping[str, Any]
    prompt: tuple[str, ...]
    overhead_tokens: int = 0
    output_tokens_max: int | None = None
    inputs: int = 0
    wishes: Wishes = field(default_factory=Wishes)
    idempotency_key: str | None = None


def idempotency_key_from(text: str | None) -> str | None:
    if text is not None and not (1 <= len(text) <= IDEMPOTENCY_KEY_LENGTH_MAX and text.isprintable()):
        raise InvalidInput(
            f"idempotency_key: must be 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} printable characters",
            field="idempotency_key",
        )
    return text


@dataclass(frozen=True, slots=True)
class Offer:
    """One offer: a model on a device at a price. `price_cents` is per `price_unit_tokens`."""

    network_id: UUID
    id: UUID
    provider: UUID
    user_id: UUID
    device: UUID
    audience: MarketScope
    status: Literal["active", "paused"]
    model: str
    kind: Kind
    price_cents: int
    price_unit_tokens: int
    rounding: Literal["per_request", "per_statement"]
    context_tokens_max: int
    capacity_jobs: int
    world: str
    memory_gib: int
    measured_latency_ms: int
    measured_tokens_per_second: int

    @property
    def price_microcents(self) -> int:
        """Per 1,000,000 tokens; exact, because a unit is 1,000 or 1,000,000."""
        return self.price_cents * MICROCENTS_PER_CENT * (PRICE_TOKENS // self.price_unit_tokens)
