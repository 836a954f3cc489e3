"""The SQL of providers, offers, transactions as their people see them, results and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from yggdrasil.db import Tx
from yggdrasil.marketplace.hours import ZONE_DEFAULT, Window, as_rows, from_rows
from yggdrasil.marketplace.requests import Kind, MarketScope, Offer, Status
from yggdrasil.marketplace.tables import OfferRow, ProviderRow

OFFERS_LOADED_MAX = 1_000_000

_OFFER_COLUMNS = (
    "network_id, id, provider, user_id, device, audience, status, model, kind, price_cents,"
    " price_unit_tokens, rounding, context_tokens_max, capacity_jobs, world, memory_gib, measured_latency_ms,"
    " measured_tokens_per_second, model_capacity_jobs, output_tokens_max, hours, zone, device_group,"
    " parameters"
)


@dataclass(frozen=True, slots=True)
class StoredProvider:
    """A device that serves others, as the database holds it."""

    network_id: UUID
    id: UUID
    user_id: UUID
    device: UUID
    audience: MarketScope
    status: Status
    capacity_jobs: int
    world: str
    memory_gib: int
    created_at: datetime
    updated_at: datetime
    hours: tuple[Window, ...] = ()
    zone: str = ZONE_DEFAULT


class TransactionView(msgspec.Struct, frozen=True):
    """One side of a trade, as its own person sees it. Money is micro-cents; the price is cents per unit of
    tokens; `quality_ppm` is what was judged of the answer, in millionths, if it was."""

    transaction_id: UUID
    side: str
    state: str
    scope: str
    kind: str
    model: str
    price_cents: int
    price_unit_tokens: int
    rounding: str
    prompt_tokens: int
    completion_tokens: int
    total_microcents: int
    fee_microcents: int
    earnings_microcents: int
    latency_ms: int | None
    attempts: int
    device: UUID | None
    key_id: UUID | None
    decision_card: Any
    error_code: str | None
    created_at: datetime
    ended_at: datetime | None
    quality_ppm: int | None


_VIEW_COLUMNS = ", ".join(TransactionView.__struct_fields__)


def _offer(row: Any) -> Offer:
    values = dict(row)
    values["hours"] = _hours(values["hours"])
    values["parameters"] = tuple(values["parameters"] or ())
    return Offer(**values)


def _provider(row: Any) -> StoredProvider:
    values = dict(row)
    values["hours"] = _hours(values["hours"])
    return StoredProvider(**values)


def _hours(stored: Any) -> tuple[Window, ...]:
    rows = msgspec.json.decode(stored) if isinstance(stored, str | bytes) else stored
    return from_rows(rows) if rows else ()


def _hours_row(hours: Sequence[Window]) -> str | None:
    return msgspec.json.encode(as_rows(hours)).decode() if hours else None


def _view(row: Any) -> TransactionView:
    values = dict(row)
    card = values["decision_card"]
    values["decision_card"] = msgspec.json.decode(card) if isinstance(card, str | bytes) else card
    return TransactionView(**values)


# ---- offers and providers ---------------------------------------------------------------------------------


async def all_offers(tx: Tx) -> list[Offer]:
    """Every offer of every network; under Market, for the router."""
    rows = await tx.fetch(
        f"SELECT {_OFFER_COLUMNS} FROM tenant.offers ORDER BY network_id, id LIMIT $1",  # noqa: S608
        OFFERS_LOADED_MAX,
    )
    return [_offer(row) for row in rows]


async def insert_provider(tx: Tx, provider: StoredProvider, offers: Sequence[Offer]) -> None:
    await tx.run(
        ProviderRow.insert(
            ProviderRow(
                network_id=provider.network_id,
                id=provider.id,
                user_id=provider.user_id,
                device=provider.device,
                audience=provider.audience,
                status=provider.status,
                capacity_jobs=provider.capacity_jobs,
                world=provider.world,
                memory_gib=provider.memory_gib,
                created_at=provider.created_at,
                updated_at=provider.updated_at,
                hours=_hours_row(provider.hours),
                zone=provider.zone,
            )
        )
    )
    await insert_offers(tx, offers, provider.updated_at)


async def insert_offers(tx: Tx, offers: Sequence[Offer], at: datetime) -> None:
    await tx.executemany(
        f"INSERT INTO tenant.offers ({_OFFER_COLUMNS}, created_at)"  # noqa: S608
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,"
        " $21::text::jsonb, $22, $23, $24, $25)",
        [
            (
                offer.network_id,
                offer.id,
                offer.provider,
                offer.user_id,
                offer.device,
                offer.audience,
                offer.status,
                offer.model,
                offer.kind,
                offer.price_cents,
                offer.price_unit_tokens,
                offer.rounding,
                offer.context_tokens_max,
                offer.capacity_jobs,
                offer.world,
                offer.memory_gib,
                offer.measured_latency_ms,
                offer.measured_tokens_per_second,
                offer.model_capacity_jobs,
                offer.output_tokens_max,
                _hours_row(offer.hours),
                offer.zone,
                offer.device_group,
                list(offer.parameters) or None,
                at,
            )
            for offer in offers
        ],
    )


async def update_provider(tx: Tx, provider: StoredProvider) -> bool:
    status = await tx.execute(
        "UPDATE tenant.providers SET audience = $3, status = $4, capacity_jobs = $5, updated_at = $6,"
        " hours = $7::text::jsonb, zone = $8"
        " WHERE network_id = $1 AND id = $2",
        provider.network_id,
        provider.id,
        provider.audience,
        provider.status,
        provider.capacity_jobs,
        provider.updated_at,
        _hours_row(provider.hours),
        provider.zone,
    )
    return status == "UPDATE 1"


async def update_offer(tx: Tx, offer: Offer) -> None:
    await tx.execute(
        "UPDATE tenant.offers SET audience = $3, status = $4, price_cents = $5, price_unit_tokens = $6,"
        " rounding = $7, context_tokens_max = $8, capacity_jobs = $9, model_capacity_jobs = $10,"
        " output_tokens_max = $11, hours = $12::text::jsonb, zone = $13, parameters = $14"
        " WHERE network_id = $1 AND id = $2",
        offer.network_id,
        offer.id,
        offer.audience,
        offer.status,
        offer.price_cents,
        offer.price_unit_tokens,
        offer.rounding,
        offer.context_tokens_max,
        offer.capacity_jobs,
        offer.model_capacity_jobs,
        offer.output_tokens_max,
        _hours_row(offer.hours),
        offer.zone,
        list(offer.parameters) or None,
    )


async def delete_offers(tx: Tx, network_id: UUID, offers: Sequence[UUID]) -> None:
    await tx.execute(
        "DELETE FROM tenant.offers WHERE network_id = $1 AND id = ANY ($2::uuid[])", network_id, list(offers)
    )


async def delete_provider(tx: Tx, network_id: UUID, id_: UUID) -> bool:
    status = await tx.execute(
        "DELETE FROM tenant.providers WHERE network_id = $1 AND id = $2", network_id, id_
    )
    return status == "DELETE 1"


async def provider(tx: Tx, network_id: UUID, id_: UUID) -> StoredProvider | None:
    rows = await tx.run(
        ProviderRow.select().where((ProviderRow.network_id == network_id) & (ProviderRow.id == id_)).limit(1)
    )
    return _provider(rows[0]) if rows else None


async def provider_of_device(tx: Tx, network_id: UUID, device: UUID) -> StoredProvider | None:
    rows = await tx.run(
        ProviderRow.select()
        .where((ProviderRow.network_id == network_id) & (ProviderRow.device == device))
        .limit(1)
    )
    return _provider(rows[0]) if rows else None


async def offers_of(tx: Tx, network_id: UUID, provider_id: UUID) -> list[Offer]:
    """By kind and model: without an order, rows come as they lie on disk, among those of other networks."""
    rows = await tx.run(
        OfferRow.select(*OfferRow.all_columns(exclude=[OfferRow.created_at]))
        .where((OfferRow.network_id == network_id) & (OfferRow.provider == provider_id))
        .order_by(OfferRow.kind)
        .order_by(OfferRow.model)
    )
    return [_offer(row) for row in rows]


async def remember_models(tx: Tx, models: Sequence[tuple[str, Kind, int, int, datetime]]) -> None:
    """(model, kind, reference price, reference latency, now) of models not seen before; under Market."""
    await tx.executemany(
        "INSERT INTO platform.models"
        " (model, kind, price_reference_microcents, latency_reference_ms, created_at)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (model, kind) DO NOTHING",
        list(models),
    )


async def update_references(tx: Tx, models: Sequence[tuple[str, str, int, int]]) -> None:
    """(model, kind, reference price, reference latency) of known models; under Market."""
    await tx.executemany(
        "UPDATE platform.models SET price_reference_microcents = $3, latency_reference_ms = $4"
        " WHERE model = $1 AND kind = $2",
        list(models),
    )


async def models(tx: Tx) -> list[tuple[str, str, int, int]]:
    """(model, kind, reference price, reference latency) of all; under Market."""
    rows = await tx.fetch(
        "SELECT model, kind, price_reference_microcents, latency_reference_ms FROM platform.models LIMIT $1",
        OFFERS_LOADED_MAX,
    )
    return [tuple(row) for row in rows]


async def device_name(tx: Tx, network_id: UUID, device: UUID) -> str | None:
    """The id its owner gave a device."""
    name: str | None = await tx.fetchval(
        "SELECT device_id FROM tenant.devices WHERE network_id = $1 AND id = $2", network_id, device
    )
    return name


# ---- transactions and results -----------------------------------------------------------------------------


async def transaction(tx: Tx, network_id: UUID, transaction_id: UUID) -> TransactionView | None:
    row = await tx.fetchrow(
        f"SELECT {_VIEW_COLUMNS} FROM tenant.transactions WHERE network_id = $1 AND side = ANY ($2::text[])"  # noqa: S608
        " AND transaction_id = $3",
        network_id,
        ["requester", "provider"],
        transaction_id,
    )
    return _view(row) if row is not None else None


async def transaction_by_key(tx: Tx, network_id: UUID, user_id: UUID, key: str) -> TransactionView | None:
    row = await tx.fetchrow(
        f"SELECT {_VIEW_COLUMNS} FROM tenant.transactions"  # noqa: S608
        " WHERE network_id = $1 AND user_id = $2 AND idempotency_key = $3",
        network_id,
        user_id,
        key,
    )
    return _view(row) if row is not None else None


async def transactions(
    tx: Tx,
    network_id: UUID,
    user_id: UUID,
    *,
    side: str | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[TransactionView]:
    """Newest first."""
    rows = await tx.fetch(
        f"SELECT {_VIEW_COLUMNS} FROM tenant.transactions WHERE network_id = $1 AND user_id = $2"  # noqa: S608
        " AND ($3::text IS NULL OR side = $3)"
        " AND ($4::timestamptz IS NULL OR (created_at, transaction_id) < ($4, $5::uuid))"
        " ORDER BY created_at DESC, transaction_id DESC LIMIT $6",
        network_id,
        user_id,
        side,
        before[0] if before is not None else None,
        before[1] if before is not None else None,
        limit,
    )
    return [_view(row) for row in rows]


async def result(tx: Tx, network_id: UUID, transaction_id: UUID, at: datetime) -> tuple[bytes, bytes] | None:
    """(nonce, sealed) of a result that has not expired."""
    row = await tx.fetchrow(
        "SELECT nonce, sealed FROM tenant.results WHERE network_id = $1 AND transaction_id = $2"
        " AND expires_at > $3",
        network_id,
        transaction_id,
        at,
    )
    return (bytes(row["nonce"]), bytes(row["sealed"])) if row is not None else None


async def delete_expired_results(tx: Tx, at: datetime) -> int:
    """Under System."""
    status = await tx.execute("DELETE FROM tenant.results WHERE expires_at <= $1", at)
    return int(status.rsplit(" ", 1)[-1])
