"""The marketplace as its edges use it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
import structlog

from yggdrasil.bifrost.hub import Hub
from yggdrasil.db import Database
from yggdrasil.devices.paging import Page, decode_cursor, encode_cursor, limit_from
from yggdrasil.devices.service import Devices, SocketMember
from yggdrasil.errors import Conflict, InvalidInput, NotFound
from yggdrasil.kernel import Clock, IdSource, Market, Network, Settle
from yggdrasil.keys import Keys
from yggdrasil.marketplace import store, store_work
from yggdrasil.marketplace.allowed import may_ask
from yggdrasil.marketplace.analytics import Analytics
from yggdrasil.marketplace.breakdown import Work
from yggdrasil.marketplace.canaries import CANARY_SECONDS, Canaries
from yggdrasil.marketplace.epochs import EPOCH_SECONDS, Epochs
from yggdrasil.marketplace.feedback import Feedback
from yggdrasil.marketplace.hours import ZONE_DEFAULT, Window
from yggdrasil.marketplace.probe import Probe
from yggdrasil.marketplace.providers import PRICE_REFERENCE_MICROCENTS, Providers, Terms
from yggdrasil.marketplace.pseudonym import PREFIX, Pseudonyms
from yggdrasil.marketplace.queueing import Queue
from yggdrasil.marketplace.recalling import keep, recall
from yggdrasil.marketplace.records import Records
from yggdrasil.marketplace.requests import ComputeRequest, MarketScope, Offer, Status
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.run import Run
from yggdrasil.marketplace.sealing import ResultSeal
from yggdrasil.marketplace.selling import Selling, provider_id_from
from yggdrasil.marketplace.serving import Serving
from yggdrasil.marketplace.settings import MarketSettings, Node
from yggdrasil.marketplace.shown import OfferView, ProviderView, offer_view
from yggdrasil.marketplace.store import TransactionView
from yggdrasil.marketplace.upstream_settings import KeyedUpstream
from yggdrasil.marketplace.upstreams import Upstreams
from yggdrasil.marketplace.verdicts import Court
from yggdrasil.payments.service import Payments
from yggdrasil.users.roles import Action, require

_log = structlog.get_logger("yggdrasil.marketplace")


class ModelView(msgspec.Struct, frozen=True):
    """A model that somebody online offers to the caller."""

    model: str
    kind: str
    scopes: list[str]
    supported_parameters: list[str]
    """What one of its offers takes, or another."""


class Marketplace:
    """Offers, requests, transactions. `start()` before use; `stop()` ends what runs, settled."""

    def __init__(
        self,
        database: Database,
        *,
        hub: Hub,
        payments: Payments,
        devices: Devices,
        clock: Clock,
        ids: IdSource,
        keys: Keys,
        node: Node,
        settings: MarketSettings | None = None,
        upstreams: Sequence[KeyedUpstream] = (),
    ) -> None:
        self.settings = settings or MarketSettings()
        self._database = database
        self._hub = hub
        self._devices = devices
        self._clock = clock
        self._node = node
        self.analytics = Analytics(database, clock)
        self._pseudonyms = Pseudonyms(keys.pseudonym.current.derive("marketplace.offers"))
        self._seal = ResultSeal(keys.key_encryption.current.derive("marketplace.results"))
        self.routing = Routing(clock, ids, self._pseudonyms, self.settings)
        self.upstreams = Upstreams(hub, upstreams, self.routing.presence)
        self._serving = Serving(
            jobs=self.upstreams,
            records=Records(database, payments, clock, self.settings),
            routing=self.routing,
            clock=clock,
            ids=ids,
            node=node,
            seal=self._seal,
            settings=self.settings,
        )
        probe = Probe(self.upstreams, clock, ids, self.settings.test_seconds)
        self.canaries = Canaries(self.routing, probe, clock, ids, self.settings, database)
        self._providers = Providers(database, devices, payments, self.routing, probe, clock, ids)
        self.feedback = Feedback(database, self.routing, clock, self.settings)
        self.work = Work(database, clock)
        self.selling = Selling(database, self._providers, self.routing, self._pseudonyms, self.work)
        self.epochs = Epochs(database, self.routing, self.work)
        self._ticking: asyncio.Task[None] | None = None
        self._testing: asyncio.Task[None] | None = None
        hub.on_presence.append(self._presence)

    async def start(self) -> None:
        """Read all offers, and what earlier boots have learnt of them."""
        async with self._database.transaction(Market()) as tx:
            company = self.upstreams.offers()
            await store.remember_models(
                tx,
                [
                    (offer.model, offer.kind, PRICE_REFERENCE_MICROCENTS, 1_000, self._clock.now())
                    for offer in company
                ],
            )
            offers = await store.all_offers(tx) + company
            models = await store.models(tx)
        self.epochs.start(models)
        for offer in offers:
            self.routing.put(offer, online=self.upstreams.online(offer.network_id, offer.device))
        await recall(
            self._database,
            self._clock,
            self.settings,
            self.routing,
            self._serving.breaks,
            self._node.node_id,
        )
        await self.feedback.recall()
        await self.upstreams.start()
        self._ticking = asyncio.create_task(self._tick(), name="marketplace: epochs")
        self._testing = asyncio.create_task(self._test(), name="marketplace: canaries")

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Idempotent."""
        if self._testing is not None:
            self._testing.cancel()
            await asyncio.gather(self._testing, return_exceptions=True)
            self._testing = None
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
            self._ticking = None
            await self._serving.stop(grace_seconds)
            await self.upstreams.stop()
            await self.epochs.stop()
            await keep(self._database, self._clock, self.routing, self._node.node_id)

    def decide_by(self, court: Court) -> None:
        """Who decides on registrations from now on."""
        self._providers.court = court

    def device_removed(self, network_id: UUID, device: UUID) -> None:
        """A device is gone: its offers end."""
        self.routing.remove_device(network_id, device)

    # ---- requests
    # -------------------------------------------------------------------------------------------

    async def run(self, scope: Network, request: ComputeRequest) -> Run:
        """Admit a request and send it on its way. Read the run's `parts()`, or await its `outcome()`.

        Raises NoProvider (names the unmet wish), PaymentMethodRequired, PaymentRequired, Conflict (the
        idempotency key
        was used), LimitReached, InvalidInput, Unavailable. What goes wrong later is raised by the run.
        """
        key = request.idempotency_key
        if key is not None and await self.earlier(scope, key) is not None:
            # The books would refuse it too, but only once a provider is found.
            raise Conflict("idempotency_key: was used for another request", field="idempotency_key")
        return await self._serving.start(scope, request)

    @property
    def running(self) -> int:
        """How many requests run on this server now, or wait."""
        return self._serving.running

    @property
    def queue(self) -> Queue:
        """Those that wait for a free offer."""
        return self._serving.queue

    async def earlier(self, scope: Network, idempotency_key: str) -> TransactionView | None:
        """The caller's transaction under that key."""
        async with self._database.transaction(scope) as tx:
            return await store.transaction_by_key(tx, scope.network_id, scope.user_id, idempotency_key)

    async def cancel(self, scope: Network, transaction_id: UUID) -> None:
        """Stop a request of the caller. Conflict if it has ended; NotFound if it is none of his."""
        try:
            self._serving.find(scope, transaction_id).cancel()
        except NotFound:
            found = await self.transaction(scope, transaction_id)
            if found.side != "requester":
                raise
            raise Conflict(f"The request is {found.state} and does not run here any more") from None

    async def result(self, scope: Network, transaction_id: UUID) -> bytes:
        """The stored result (JSON) of a paid request of the caller, for 15 minutes; NotFound otherwise."""
        async with self._database.transaction(scope) as tx:
            sealed = await store.result(tx, scope.network_id, transaction_id, self._clock.now())
        if sealed is None:
            raise NotFound
        plain = self._seal.open(scope.network_id, scope.user_id, transaction_id, *sealed)
        if plain is None:
            raise NotFound
        return plain

    async def transaction(self, scope: Network, transaction_id: UUID) -> TransactionView:
        async with self._database.transaction(scope) as tx:
            found = await store.transaction(tx, scope.network_id, transaction_id)
        if found is None:
            raise NotFound
        return found

    async def transactions(
        self, scope: Network, *, side: Literal["requester", "provider"] | None, limit: int, cursor: str | None
    ) -> Page:
        """The caller's transactions, newest first."""
        limit_from(limit)
        before = None
        if cursor is not None:
            at, transaction_id = decode_cursor(cursor, parts=2)
            try:
                before = (datetime.fromisoformat(at), UUID(transaction_id))
            except ValueError:
                raise InvalidInput(
                    "cursor: must be the `next` of an earlier answer", field="cursor"
                ) from None
            if before[0].tzinfo is None:
                raise InvalidInput("cursor: must be the `next` of an earlier answer", field="cursor")
        async with self._database.transaction(scope) as tx:
            rows = await store.transactions(
                tx, scope.network_id, scope.user_id, side=side, before=before, limit=limit + 1
            )
        items, more = rows[:limit], len(rows) > limit
        last = items[-1] if items else None
        following = (
            encode_cursor(last.created_at.isoformat(), str(last.transaction_id)) if more and last else None
        )
        return Page(items=items, next=following)

    # ---- offers
    # ---------------------------------------------------------------------------------------------

    def offers(
        self, scope: Network, *, model: str | None, within: MarketScope | None, limit: int, cursor: str | None
    ) -> Page:
        """Offers the caller may know of, by model, price and name."""
        limit_from(limit)
        after = decode_cursor(cursor, parts=3) if cursor is not None else None
        shown = []
        for offer in self.routing.visible(scope):
            if model is not None and offer.model != model:
                continue
            view = self._view(scope, offer)
            if within is None or view.scope == within:
                # The price as text of fixed width, so that it sorts as a number.
                shown.append(((view.model, f"{offer.price_microcents:020}", view.offer), view))
        shown.sort(key=lambda item: item[0])
        rest = [item for item in shown if after is None or item[0] > after]
        items = rest[:limit]
        following = encode_cursor(*items[-1][0]) if len(rest) > limit else None
        return Page(items=[view for _, view in items], next=following)

    def offer(self, scope: Network, name: str) -> OfferView:
        """One offer by its pseudonym, or NotFound."""
        offer_id = self._pseudonyms.offer(scope.network_id, name)
        offer = self.routing.offer(offer_id) if offer_id is not None else None
        if offer is None or not self.routing.may_see(scope, offer):
            raise NotFound
        return self._view(scope, offer)

    def models(self, scope: Network) -> list[ModelView]:
        """What can be asked for now, and in which scopes."""
        found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
        for offer in self.routing.visible(scope):
            if not may_ask(scope, offer.model):
                continue
            if self.routing.takes_work(offer) and self.routing.online(offer):
                view = self._view(scope, offer)
                scopes, taken = found.setdefault((offer.model, offer.kind), (set(), set()))
                scopes.add(view.scope)
                taken.update(view.supported_parameters)
        return [
            ModelView(model=model, kind=kind, scopes=sorted(scopes), supported_parameters=sorted(taken))
            for (model, kind), (scopes, taken) in sorted(found.items())
        ]

    def _view(self, scope: Network, offer: Offer) -> OfferView:
        name = self._pseudonyms.name(scope.network_id, offer.id)
        return offer_view(scope, offer, name, self.routing.standing(offer), online=self.routing.online(offer))

    # ---- providers
    # ------------------------------------------------------------------------------------------

    async def require_idle(self, scope: Network) -> None:
        """Before a network ends: Conflict while one of its providers works for others, for what that earns
        would find nobody. Owners only."""
        require(scope, Action.CLOSE)
        async with self._database.transaction(Settle((scope.network_id,))) as tx:
            if await store_work.is_under_way(tx, scope.network_id):
                raise Conflict(
                    "a provider works for others: pause it, wait until its jobs end, then delete the account"
                )

    async def register_provider(
        self,
        scope: Network,
        *,
        device_id: str,
        audience: MarketScope,
        capacity_jobs: int,
        terms: Sequence[Terms],
        hours: tuple[Window, ...] = (),
        zone: str = ZONE_DEFAULT,
    ) -> ProviderView:
        """See `Providers.register`."""
        made = await self._providers.register(
            scope,
            device_id=device_id,
            audience=audience,
            capacity_jobs=capacity_jobs,
            terms=terms,
            hours=hours,
            zone=zone,
        )
        return await self.selling.provider(scope, made.id)

    async def provider(self, scope: Network, name: str) -> ProviderView | OfferView:
        """A provider of the own network by its id, or an offer by its pseudonym."""
        if name.startswith(PREFIX):
            return self.offer(scope, name)
        require(scope, Action.SEE_DEVICES)
        return await self.selling.provider(scope, provider_id_from(name))

    async def update_provider(
        self,
        scope: Network,
        name: str,
        *,
        audience: MarketScope | None,
        status: Status | None,
        capacity_jobs: int | None,
        terms: Sequence[Terms] | None,
        hours: tuple[Window, ...] | None = None,
        zone: str | None = None,
    ) -> ProviderView:
        """See `Providers.update`."""
        provider_id = provider_id_from(name)
        await self._providers.update(
            scope,
            provider_id,
            audience=audience,
            status=status,
            capacity_jobs=capacity_jobs,
            terms=terms,
            hours=hours,
            zone=zone,
        )
        return await self.selling.provider(scope, provider_id)

    async def remove_provider(self, scope: Network, name: str) -> None:
        """See `Providers.remove`."""
        await self._providers.remove(scope, provider_id_from(name))

    # ---- events
    # ---------------------------------------------------------------------------------------------

    def _presence(self, member: SocketMember, online: bool) -> None:
        self.routing.presence(member.network_id, member.device, online)

    async def _tick(self) -> None:
        while True:
            await self.epochs.run_once()
            await asyncio.sleep(EPOCH_SECONDS)

    async def _test(self) -> None:
        while True:
            await asyncio.sleep(CANARY_SECONDS)
            try:
                await self.canaries.run_once()
            except Exception:
                _log.exception("canaries failed")
