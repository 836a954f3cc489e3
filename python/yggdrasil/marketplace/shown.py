"""What is shown of offers and providers. The buckets are the whole of what a stranger learns about an
offer. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from yggdrasil.kernel import Network
from yggdrasil.marketplace.fitting import NEW_WEIGHT
from yggdrasil.marketplace.parameters import supported
from yggdrasil.marketplace.requests import Offer
from yggdrasil.marketplace.seen import Standing
from yggdrasil.marketplace.wishes import QUALITY_STEPS

_LATENCY_MS: Final = ((250, "under_250_ms"), (1_000, "under_1_s"), (4_000, "under_4_s"))
_MEMORY_GIB: Final = ((16, "under_16_gib"), (64, "under_64_gib"), (256, "under_256_gib"))


class OfferView(msgspec.Struct, frozen=True, omit_defaults=True):
    """An offer by the name its viewer knows it by. `scope` is the narrowest scope in which it serves the
    viewer; `provider_id` is set for the viewer's own."""

    offer: str
    model: str
    kind: str
    price_cents: int
    price_unit_tokens: int
    rounding: str
    context_tokens_max: int
    quality: str
    latency: str
    world: str
    memory: str
    scope: str
    mine: bool
    online: bool
    provider_id: UUID | None = None
    status: str | None = None
    audience: str | None = None
    capacity_jobs: int | None = None
    output_tokens_max: int | None = None
    supported_parameters: list[str] = []


class ProviderView(msgspec.Struct, frozen=True):
    """A provider of the viewer's own network."""

    provider_id: UUID
    device_id: str
    user_id: UUID
    audience: str
    status: str
    capacity_jobs: int
    hours: list[dict[str, Any]]
    zone: str
    jobs_running: int
    online: bool
    created_at: datetime
    updated_at: datetime
    offers: list[OfferView]


def offer_view(scope: Network, offer: Offer, name: str, standing: Standing, *, online: bool) -> OfferView:
    home = offer.network_id == scope.network_id
    mine = home and offer.user_id == scope.user_id
    return OfferView(
        offer=name,
        model=offer.model,
        kind=offer.kind,
        price_cents=offer.price_cents,
        price_unit_tokens=offer.price_unit_tokens,
        rounding=offer.rounding,
        context_tokens_max=offer.context_tokens_max,
        quality=quality_bucket(standing),
        latency=_under(_LATENCY_MS, standing.latency_ms, "4_s_or_more"),
        world=offer.world,
        memory=_under(_MEMORY_GIB, offer.memory_gib, "256_gib_or_more") if offer.memory_gib else "unknown",
        scope="own" if mine else "network" if home else "market",
        mine=mine,
        online=online,
        provider_id=offer.provider if mine else None,
        status=offer.status if mine else None,
        audience=offer.audience if mine else None,
        capacity_jobs=(offer.model_capacity_jobs or offer.capacity_jobs) if mine else None,
        output_tokens_max=offer.output_tokens_max,
        supported_parameters=sorted(supported(offer)),
    )


def quality_bucket(standing: Standing) -> str:
    if standing.weight < NEW_WEIGHT:
        return "new"
    return next((name for least, name in reversed(QUALITY_STEPS) if standing.quality >= least), "low")


def _under(steps: tuple[tuple[int, str], ...], value: float, beyond: str) -> str:
    return next((name for limit, name in steps if value < limit), beyond)
