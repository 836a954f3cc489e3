"""Pure parts of a compute request, and the table of its transaction's states. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import UUID

from yggdrasil import heidrun
from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import MICROCENTS_PER_CENT
from yggdrasil.marketplace.hours import ZONE_DEFAULT, Window
from yggdrasil.marketplace.wishes import PRICE_TOKENS as PRICE_TOKENS
from yggdrasil.marketplace.wishes import MarketScope as MarketScope
from yggdrasil.marketplace.wishes import Wishes as Wishes

Kind = Literal["chat", "embeddings"]
Status = Literal["active", "draining", "paused"]
"""Draining and paused take no new work; draining says that the owner waits for what still runs."""

OUTPUT_TOKENS_DEFAULT: Final = 4_096
OUTPUT_TOKENS_MAX: Final = 1_000_000
IDEMPOTENCY_KEY_LENGTH_MAX: Final = 128
MODEL_LENGTH_MAX: Final = 128
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
    # Back to the queue: nobody took it, and it waits again, with nothing held.
    State.PROCESSING: frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.PENDING}),
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
class ComputeRequest:
    """One request as the service runs it. `body` is what the provider gets, less the cap on its output;
    `prompt` are
    the texts whose tokens are paid for, `overhead_tokens` what the chat format adds to
    them. `output_tokens_max` is for each of its `choices`."""

    kind: Kind
    model: str
    body: Mapping[str, Any]
    prompt: tuple[str, ...]
    overhead_tokens: int = 0
    output_tokens_max: int | None = None
    inputs: int = 0
    choices: int = 1
    wishes: Wishes = field(default_factory=Wishes)
    idempotency_key: str | None = None
    conversation: str | None = None
    """What this request belongs to; the provider of the last one of it is preferred."""
    whole: bool = False
    """Only its outcome is read: nothing is passed on in parts."""

    def prompt_tokens(self) -> int:
        """As the model counts them."""
        return sum(heidrun.count(self.model, text) for text in self.prompt) + self.overhead_tokens


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
    status: Status
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
    model_capacity_jobs: int | None = None
    """Jobs of this model at a time; `capacity_jobs` are the device's, shared by all its offers."""
    output_tokens_max: int | None = None
    hours: tuple[Window, ...] = ()
    zone: str = ZONE_DEFAULT
    device_group: bytes | None = None
    """Its device by the device's key, 16 bytes; None: one that is never registered anew, known by its id."""
    parameters: tuple[str, ...] = ()
    """Request parameters it declares to honour, beyond those that every offer does."""

    @property
    def group(self) -> bytes:
        """What shares slots and a breaker with it."""
        return self.device_group if self.device_group is not None else self.device.bytes

    @property
    def price_microcents(self) -> int:
        """Per 1,000,000 tokens; exact, because a unit is 1,000 or 1,000,000."""
        return self.price_cents * MICROCENTS_PER_CENT * (PRICE_TOKENS // self.price_unit_tokens)
