"""Registering a device as a provider, and what becomes of its offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Final, Literal
from uuid import UUID

import asyncpg

from yggdrasil.audit import Event, EventKind, actor_of, record
from yggdrasil.db import Database
from yggdrasil.devices.model import StoredDevice, group_of
from yggdrasil.devices.service import Devices
from yggdrasil.errors import Conflict, Forbidden, InvalidInput, NotFound
from yggdrasil.kernel import Clock, IdSource, Market, Network, Settle
from yggdrasil.marketplace import parameters, store
from yggdrasil.marketplace.allowed import may_see
from yggdrasil.marketplace.auto import AUTO
from yggdrasil.marketplace.hours import ZONE_DEFAULT, Window, as_rows, zone_from
from yggdrasil.marketplace.probe import Probe
from yggdrasil.marketplace.requests import MODEL_LENGTH_MAX, PRICE_CENTS_MAX, Kind, MarketScope, Offer, Status
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.store import StoredProvider
from yggdrasil.marketplace.verdicts import Asked, Court, failed
from yggdrasil.payments.service import Payments
from yggdrasil.users.roles import Action, require

MODELS_MAX: Final = 32
CAPACITY_JOBS_MAX: Final = 1_024
PRICE_REFERENCE_MICROCENTS: Final = 100_000_000
MEMORY_GIB_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What a provider asks for one model. `price_cents` is per `price_unit_tokens`."""

    model: str
    kind: Kind
    price_cents: int
    price_unit_tokens: int
    rounding: Literal["per_request", "per_statement"]
    context_tokens_max: int
    output_tokens_max: int | None = None
    capacity_jobs: int | None = None
    """Of this model at a time; None: as many as the device takes."""
    parameters: tuple[str, ...] = ()
    """Request parameters its backend honours, beyond those that every one does."""


class Providers:
    """Use cases of providers. The market needs a verified payout method; one's own people need none."""

    def __init__(
        self,
        database: Database,
        devices: Devices,
        payments: Payments,
        routing: Routing,
        probe: Probe,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._database = database
        self._devices = devices
        self._payments = payments
        self._routing = routing
        self._probe = probe
        self._clock = clock
        self._ids = ids
        self.court: Court | None = None

    async def register(
        self,
        scope: Network,
        *,
        device_id: str,
        audience: MarketScope,
        capacity_jobs: int,
        terms: Sequence[Terms],
        hours: tuple[Window, ...] = (),
        zone: str = ZONE_DEFAULT,
    ) -> StoredProvider:
        """Make a device of the caller a provider, after a test of every model on it.

        Raises NotFound (no such device), Forbidden (not the caller's), Conflict (offline, busy or
        registered already),
        PaymentMethodRequired (audience market without a verified payout method), ProviderFailed (the test),
        InvalidInput."""
        require(scope, Action.SELL)
        _check_capacity(capacity_jobs)
        check_terms(terms)
        zone_from(zone)
        device = await self._devices.stored(scope, device_id)
        if device.user_id != scope.user_id:
            raise Forbidden("Only the owner of a device can make it a provider")
        await self._check_admission(scope, device, audience)
        now = self._clock.now()
        provider = StoredProvider(
            network_id=scope.network_id,
            id=self._ids.uuid(),
            user_id=scope.user_id,
            device=device.id,
            audience=audience,
            status="active",
            capacity_jobs=capacity_jobs,
            world=device.world,
            memory_gib=_memory_gib(device),
            created_at=now,
            updated_at=now,
            hours=hours,
            zone=zone,
        )
        group = group_of(scope.network_id, device.device_key)
        offers = await self._tested(
            scope, device_id, provider, terms, [_offer(provider, group, asked) for asked in terms]
        )
        await self._check_payout(scope, audience)
        try:
            async with self._database.transaction(scope) as tx:
                await store.insert_provider(tx, provider, offers)
                event = Event(
                    network_id=scope.network_id,
                    event_id=self._ids.uuid(),
                    at=now,
                    kind=EventKind.PROVIDER_REGISTERED,
                    actor=actor_of(scope),
                    subject="provider",
                    subject_id=provider.id,
                    user_id=scope.user_id,
                    detail={"audience": audience, "device": str(device.id)},
                )
                await record(tx, event)
        except asyncpg.UniqueViolationError as error:
            raise _taken(error) from None
        except asyncpg.ForeignKeyViolationError:
            raise NotFound from None
        await self._enter(offers)
        return provider

    async def get(self, scope: Network, provider_id: UUID) -> tuple[StoredProvider, list[Offer]]:
        """A provider of the own network."""
        async with self._database.transaction(scope) as tx:
            found = await store.provider(tx, scope.network_id, provider_id)
            if found is None or not may_see(scope, found.audience, found.user_id):
                raise NotFound
            return found, await store.offers_of(tx, scope.network_id, provider_id)

    async def device_name(self, scope: Network, provider: StoredProvider) -> str:
        """The id its owner gave the provider's device."""
        async with self._database.transaction(scope) as tx:
            name = await store.device_name(tx, scope.network_id, provider.device)
        if name is None:
            raise NotFound
        return name

    async def update(
        self,
        scope: Network,
        provider_id: UUID,
        *,
        audience: MarketScope | None,
        status: Status | None,
        capacity_jobs: int | None,
        terms: Sequence[Terms] | None,
        hours: tuple[Window, ...] | None = None,
        zone: str | None = None,
    ) -> StoredProvider:
        """Change what is given. `terms` replace the list of models; one that was not offered before is
        tested first."""
        if capacity_jobs is not None:
            _check_capacity(capacity_jobs)
        if terms is not None:
            check_terms(terms)
        found, before = await self.get(scope, provider_id)
        check_may_change(scope, found)
        provider = replace(
            found,
            audience=audience or found.audience,
            status=status or found.status,
            capacity_jobs=capacity_jobs or found.capacity_jobs,
            updated_at=self._clock.now(),
            hours=found.hours if hours is None else hours,
            zone=zone_from(zone) if zone is not None else found.zone,
        )
        group = before[0].group
        known = {(offer.kind, offer.model): offer for offer in before}
        after: list[Offer] = []
        fresh: list[Offer] = []
        for asked in terms if terms is not None else [_terms_of(offer) for offer in before]:
            offer = _offer(provider, group, asked)
            old = known.pop((asked.kind, asked.model), None)
            if old is None:
                fresh.append(offer)
            else:
                after.append(
                    replace(
                        offer,
                        id=old.id,
                        measured_latency_ms=old.measured_latency_ms,
                        measured_tokens_per_second=old.measured_tokens_per_second,
                    )
                )
        if fresh:
            device_id = await self.device_name(scope, found)
            fresh = await self._tested(
                scope, device_id, provider, [_terms_of(offer) for offer in fresh], fresh
            )
        gone = [offer.id for offer in known.values()]
        await self._check_payout(scope, provider.audience)
        try:
            async with self._database.transaction(scope) as tx:
                if not await store.update_provider(tx, provider):
                    raise NotFound
                await store.delete_offers(tx, scope.network_id, gone)
                for offer in after:
                    await store.update_offer(tx, offer)
                await store.insert_offers(tx, fresh, provider.updated_at)
        except asyncpg.UniqueViolationError as error:
            raise _taken(error) from None
        for offer_id in gone:
            self._routing.remove(offer_id)
        await self._enter([*after, *fresh])
        return provider

    async def remove(self, scope: Network, provider_id: UUID) -> None:
        """Unregister: its offers end at once, what runs goes on."""
        found, offers = await self.get(scope, provider_id)
        check_may_change(scope, found)
        async with self._database.transaction(scope) as tx:
            if not await store.delete_provider(tx, scope.network_id, provider_id):
                raise NotFound
        for offer in offers:
            self._routing.remove(offer.id)

    async def _check_admission(self, scope: Network, device: StoredDevice, audience: MarketScope) -> None:
        """What can be refused before the device is put to work."""
        async with self._database.transaction(scope) as tx:
            if await store.provider_of_device(tx, scope.network_id, device.id) is not None:
                raise Conflict("device_id: is a provider already", field="device_id")
        await self._check_payout(scope, audience)

    async def _check_payout(self, scope: Network, audience: MarketScope) -> None:
        """As the poster: members sell into the network's wallet, and do not see how it is paid out."""
        if audience == "market":
            async with self._database.transaction(Settle((scope.network_id,))) as tx:
                await self._payments.require_payout_method(tx, scope.network_id)

    async def _tested(
        self,
        scope: Network,
        device_id: str,
        provider: StoredProvider,
        terms: Sequence[Terms],
        offers: Sequence[Offer],
    ) -> list[Offer]:
        """The offers with what was measured, if the decision on them is good. Raises ProviderFailed."""
        facts = [await self._probe.examine(offer) for offer in offers]
        if self.court is not None:
            asked = Asked(
                device_id=device_id,
                audience=provider.audience,
                capacity_jobs=provider.capacity_jobs,
                hours=as_rows(provider.hours),
                zone=provider.zone,
                models=[asdict(one) for one in terms],
            )
            await self.court.decide(scope, asked, facts)
        refused = failed(facts)
        if refused is not None:
            raise refused
        return [
            replace(
                offer,
                measured_latency_ms=fact.latency_ms or 0,
                measured_tokens_per_second=fact.tokens_per_second or 0,
            )
            for offer, fact in zip(offers, facts, strict=True)
        ]

    async def _enter(self, offers: Sequence[Offer]) -> None:
        async with self._database.transaction(Market()) as tx:
            await store.remember_models(
                tx,
                [
                    (offer.model, offer.kind, PRICE_REFERENCE_MICROCENTS, 1_000, self._clock.now())
                    for offer in offers
                ],
            )
        for offer in offers:
            self._routing.put(offer, online=self._devices.online(offer.network_id, offer.device))


def offer_id(group: bytes, kind: str, model: str) -> UUID:
    """The id of the offer of a model on the device of a group."""
    digest = blake2b(f"{kind}/{model}".encode(), key=group, digest_size=16, person=b"market offer").digest()
    return UUID(bytes=digest, version=4)


def _offer(provider: StoredProvider, group: bytes, asked: Terms) -> Offer:
    """Its id is made of the device's key and the model: what was learnt of it outlives a registration."""
    return Offer(
        network_id=provider.network_id,
        id=offer_id(group, asked.kind, asked.model),
        provider=provider.id,
        user_id=provider.user_id,
        device=provider.device,
        audience=provider.audience,
        status=provider.status,
        model=asked.model,
        kind=asked.kind,
        price_cents=asked.price_cents,
        price_unit_tokens=asked.price_unit_tokens,
        rounding=asked.rounding,
        context_tokens_max=asked.context_tokens_max,
        capacity_jobs=provider.capacity_jobs,
        world=provider.world,
        memory_gib=provider.memory_gib,
        measured_latency_ms=0,
        measured_tokens_per_second=0,
        model_capacity_jobs=asked.capacity_jobs,
        output_tokens_max=asked.output_tokens_max,
        hours=provider.hours,
        zone=provider.zone,
        device_group=group,
        parameters=parameters.check(asked.kind, asked.parameters),
    )


def _terms_of(offer: Offer) -> Terms:
    return Terms(
        offer.model,
        offer.kind,
        offer.price_cents,
        offer.price_unit_tokens,
        offer.rounding,
        offer.context_tokens_max,
        offer.output_tokens_max,
        offer.model_capacity_jobs,
        offer.parameters,
    )


def check_terms(terms: Sequence[Terms]) -> None:
    """The rules of a list of models; InvalidInput names the field."""
    if not 1 <= len(terms) <= MODELS_MAX:
        raise InvalidInput(f"models: must list 1 to {MODELS_MAX} models", field="models")
    if len({(asked.kind, asked.model) for asked in terms}) != len(terms):
        raise InvalidInput("models: must list each model once", field="models")
    for asked in terms:
        if not (
            1 <= len(asked.model) <= MODEL_LENGTH_MAX and asked.model.isascii() and asked.model.isprintable()
        ):
            raise InvalidInput(
                f"model: must be 1 to {MODEL_LENGTH_MAX} printable ASCII characters", field="model"
            )
        if " " in asked.model:
            raise InvalidInput("model: must not contain spaces", field="model")
        if asked.model == AUTO:
            raise InvalidInput("model: must not be auto, which leaves the choice to us", field="model")
        if not 0 <= asked.price_cents <= PRICE_CENTS_MAX:
            raise InvalidInput(f"price_cents: must be 0 to {PRICE_CENTS_MAX}", field="price_cents")
        if asked.price_unit_tokens not in (1_000, 1_000_000):
            raise InvalidInput("price_unit_tokens: must be 1000 or 1000000", field="price_unit_tokens")
        if not 1 <= asked.context_tokens_max <= 100_000_000:
            raise InvalidInput("context_tokens_max: must be 1 to 100000000", field="context_tokens_max")
        if asked.output_tokens_max is not None and not 1 <= asked.output_tokens_max <= 100_000_000:
            raise InvalidInput("output_tokens_max: must be 1 to 100000000", field="output_tokens_max")
        if asked.capacity_jobs is not None:
            _check_capacity(asked.capacity_jobs)
        parameters.check(asked.kind, asked.parameters)


def _check_capacity(capacity_jobs: int) -> None:
    if not 1 <= capacity_jobs <= CAPACITY_JOBS_MAX:
        raise InvalidInput(f"capacity_jobs: must be 1 to {CAPACITY_JOBS_MAX}", field="capacity_jobs")


def check_may_change(scope: Network, provider: StoredProvider) -> None:
    """Forbidden for a guest, and for another member's provider without a role that may."""
    require(scope, Action.SELL if provider.user_id == scope.user_id else Action.OTHERS_DEVICES)


def _taken(error: asyncpg.UniqueViolationError) -> Conflict:
    if error.constraint_name == "offers_pkey":
        return Conflict(
            "models: a device of the same key in this network offers one of them already", field="models"
        )
    return Conflict("device_id: is a provider already", field="device_id")


def _memory_gib(device: StoredDevice) -> int:
    value = device.hardware.get("memory_gib", 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MEMORY_GIB_MAX:
        return 0
    return int(value)
