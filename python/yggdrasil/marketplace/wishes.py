"""What a requester may wish of the route, under the names that OpenRouter gave these wishes. No I/O.

A wish that cannot be met ends the request with `NoProvider` that names it; a name that is not here is
refused. Quality, latency and throughput are asked for, and compared, in steps alone: whoever tries them out
learns a step and no figure.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import MICROCENTS_MAX, MICROCENTS_PER_CENT

MarketScope = Literal["own", "network", "market"]
Sort = Literal["price", "throughput", "latency"]
QualityStep = Literal["fair", "good", "high"]
OnBreak = Literal["fail", "resume", "restart"]

DEADLINE_SECONDS_DEFAULT: Final = 120
DEADLINE_SECONDS_MAX: Final = 600
QUEUE_SECONDS_MAX: Final = 60
OFFERS_LISTED_MAX: Final = 64
OFFER_NAME_LENGTH_MAX: Final = 64
CONVERSATION_LENGTH_MAX: Final = 512
PRICE_TOKENS: Final = 1_000_000
QUALITY_STEPS: Final[tuple[tuple[float, QualityStep], ...]] = ((0.5, "fair"), (0.7, "good"), (0.85, "high"))
LATENCY_STEPS_MS: Final = (250, 1_000, 4_000)
THROUGHPUT_STEPS: Final[tuple[int, ...]] = tuple(lead * 10**power for power in range(5) for lead in (1, 2, 5))
"""Tokens in a second: 1, 2, 5, 10, 20, 50, ..."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the requester wants of the route. The highest price is micro-cents per 1,000,000 tokens."""

    scope: MarketScope = "market"
    max_cost_microcents: int | None = None
    max_price_microcents: int | None = None
    max_price_field: str = "max_price_cents"
    """How the caller named the highest price."""
    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    sort: Sort | None = None
    throughput_min: int | None = None
    """Tokens in a second, one of `THROUGHPUT_STEPS`."""
    min_quality: QualityStep | None = None
    conversation: str | None = None
    on_break: OnBreak = "fail"
    """What to do when a provider breaks off after its first chunk."""
    deadline_seconds: int = DEADLINE_SECONDS_DEFAULT
    queue_seconds: int | None = None
    """How long to wait for an offer that is busy, within the deadline; None: as the server is set."""

    @property
    def narrow(self) -> bool:
        """Whether an offer must be looked at to know if it fits, beyond what the router's own gates ask."""
        return (
            self.require_parameters
            or self.sort is not None
            or self.throughput_min is not None
            or self.min_quality is not None
        )


class PriceLimit(msgspec.Struct, forbid_unknown_fields=True):
    """The highest price, in whole cents per `unit_tokens`. Prompt and completion of an offer have one price,
    so the lower of the two limits counts."""

    prompt: int | None = None
    completion: int | None = None
    unit_tokens: Literal[1_000, 1_000_000] = PRICE_TOKENS


OfferNames = Annotated[list[str], Meta(max_length=OFFERS_LISTED_MAX)]


class WishFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wishes as a caller writes them. Offers go by the names that `GET /api/v1/marketplace/providers`
    shows. `max_price_cents` is per 1,000 tokens, a bare `max_price` per 1,000,000."""

    scope: MarketScope | None = None
    order: OfferNames | None = None
    only: OfferNames | None = None
    ignore: OfferNames | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    sort: Sort | None = None
    max_price: int | PriceLimit | None = None
    max_price_cents: int | None = None
    max_cost: int | None = None
    max_cost_cents: int | None = None
    max_cost_microcents: int | None = None
    preferred_min_throughput: float | None = None
    min_quality: QualityStep | None = None
    on_break: OnBreak | None = None
    conversation: Annotated[str, Meta(min_length=1, max_length=CONVERSATION_LENGTH_MAX)] | None = None
    deadline_seconds: int | None = None
    queue_seconds: int | None = None


def wishes_of(*fields: WishFields | None, other: dict[str, Any] | None = None) -> Wishes:
    """Wishes out of several places, each wish in one of them; `other` is what none of them has."""
    places = [place for place in fields if place is not None]
    if not places and not other:
        return _plain()
    given = dict(other or {})
    found: dict[str, Any] = {}
    for name in WishFields.__struct_fields__:
        for place in places:
            value = getattr(place, name, None)
            if value is None:
                continue
            if name in found:
                raise InvalidInput(f"{name}: must stand in one place only", field=name)
            found[name] = value
    return wishes_from(**{**given, **found})


@cache
def _plain() -> Wishes:
    """Those of who wished nothing, as most do."""
    return wishes_from()


def wishes_from(
    *,
    scope: MarketScope | None = None,
    order: list[str] | None = None,
    only: list[str] | None = None,
    ignore: list[str] | None = None,
    allow_fallbacks: bool | None = None,
    require_parameters: bool | None = None,
    sort: Sort | None = None,
    max_price: int | PriceLimit | None = None,
    max_price_cents: int | None = None,
    max_cost: int | None = None,
    max_cost_cents: int | None = None,
    max_cost_microcents: int | None = None,
    preferred_min_throughput: float | None = None,
    min_quality: QualityStep | None = None,
    on_break: OnBreak | None = None,
    conversation: str | None = None,
    deadline_seconds: int | None = None,
    queue_seconds: int | None = None,
) -> Wishes:
    """Wishes out of what a caller wrote; InvalidInput names the field and its rule."""
    _one_of("scope", scope, ("own", "network", "market"))
    _one_of("sort", sort, ("price", "throughput", "latency"))
    _one_of("min_quality", min_quality, ("fair", "good", "high"))
    _one_of("on_break", on_break, ("fail", "resume", "restart"))
    for name, offers in (("order", order), ("only", only), ("ignore", ignore)):
        _offers(name, offers)
    cost = _first_of(
        max_cost=_microcents(max_cost, MICROCENTS_PER_CENT, "max_cost"),
        max_cost_cents=_microcents(max_cost_cents, MICROCENTS_PER_CENT, "max_cost_cents"),
        max_cost_microcents=_microcents(max_cost_microcents, 1, "max_cost_microcents"),
    )
    per_thousand = MICROCENTS_PER_CENT * (PRICE_TOKENS // 1_000)
    price = _first_of(
        max_price=_price(max_price),
        max_price_cents=_microcents(max_price_cents, per_thousand, "max_price_cents"),
    )
    if conversation is not None and not 1 <= len(conversation) <= CONVERSATION_LENGTH_MAX:
        raise InvalidInput(
            f"conversation: must be 1 to {CONVERSATION_LENGTH_MAX} characters", field="conversation"
        )
    seconds = DEADLINE_SECONDS_DEFAULT if deadline_seconds is None else deadline_seconds
    if not 1 <= seconds <= DEADLINE_SECONDS_MAX:
        raise InvalidInput(f"deadline_seconds: must be 1 to {DEADLINE_SECONDS_MAX}", field="deadline_seconds")
    if queue_seconds is not None and not 0 <= queue_seconds <= QUEUE_SECONDS_MAX:
        raise InvalidInput(f"queue_seconds: must be 0 to {QUEUE_SECONDS_MAX}", field="queue_seconds")
    return Wishes(
        scope=scope or "market",
        max_cost_microcents=cost,
        max_price_microcents=price,
        max_price_field="max_price" if max_price is not None else "max_price_cents",
        order=tuple(dict.fromkeys(order or ())),
        only=tuple(only or ()),
        ignore=tuple(ignore or ()),
        allow_fallbacks=allow_fallbacks is not False,
        require_parameters=bool(require_parameters),
        sort=sort,
        throughput_min=_throughput(preferred_min_throughput),
        min_quality=min_quality,
        on_break=on_break or "fail",
        conversation=conversation,
        deadline_seconds=seconds,
        queue_seconds=queue_seconds,
    )


def throughput_step(tokens_per_second: float) -> int:
    """The step at or below; 0 below the first."""
    at = bisect_right(THROUGHPUT_STEPS, tokens_per_second)
    return THROUGHPUT_STEPS[at - 1] if at else 0


def latency_step(latency_ms: float) -> int:
    """0 is the fastest."""
    return bisect_right(LATENCY_STEPS_MS, latency_ms)


def quality_step(quality: float) -> int:
    """0 is below `fair`, 3 is `high`."""
    return sum(quality >= least for least, _ in QUALITY_STEPS)


def quality_step_of(name: QualityStep) -> int:
    return 1 + [step for _, step in QUALITY_STEPS].index(name)


def _one_of(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise InvalidInput(f"{name}: must be {', '.join(allowed[:-1])} or {allowed[-1]}", field=name)


def _offers(name: str, offers: list[str] | None) -> None:
    if offers is None:
        return
    if len(offers) > OFFERS_LISTED_MAX:
        raise InvalidInput(f"{name}: must list at most {OFFERS_LISTED_MAX} offers", field=name)
    if any(len(offer) > OFFER_NAME_LENGTH_MAX for offer in offers):
        raise InvalidInput(f"{name}: must list offers such as offer_<32 hex digits>", field=name)


def _first_of(**amounts: int | None) -> int | None:
    given = {name: amount for name, amount in amounts.items() if amount is not None}
    if len(given) > 1:
        first, second = list(given)[:2]
        raise InvalidInput(f"{second}: must not stand beside {first}", field=second)
    return next(iter(given.values()), None)


def _price(limit: int | PriceLimit | None) -> int | None:
    if limit is None or isinstance(limit, int):
        return _microcents(limit, MICROCENTS_PER_CENT, "max_price")
    prices = [price for price in (limit.prompt, limit.completion) if price is not None]
    if not prices:
        raise InvalidInput("max_price: must name prompt, completion or both", field="max_price")
    lowest = min(prices)
    return _microcents(lowest, MICROCENTS_PER_CENT * (PRICE_TOKENS // limit.unit_tokens), "max_price")


def _throughput(value: float | None) -> int | None:
    if value is None:
        return None
    if not 0 < value <= THROUGHPUT_STEPS[-1]:
        raise InvalidInput(
            f"preferred_min_throughput: must be above 0, at most {THROUGHPUT_STEPS[-1]} tokens in a second",
            field="preferred_min_throughput",
        )
    return int(next(step for step in THROUGHPUT_STEPS if step >= value))


def _microcents(value: int | None, factor: int, name: str) -> int | None:
    if value is None:
        return None
    if not 0 <= value <= MICROCENTS_MAX // factor:
        raise InvalidInput(f"{name}: must be 0 to {MICROCENTS_MAX // factor}", field=name)
    return value * factor
