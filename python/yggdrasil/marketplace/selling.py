"""A seller's own view of what he sells: his providers, how they stand, and what work they get."""

from __future__ import annotations

from uuid import UUID

from yggdrasil.db import Database
from yggdrasil.devices.paging import Page, decode_cursor, encode_cursor, limit_from
from yggdrasil.errors import InvalidInput, NotFound
from yggdrasil.kernel import Network
from yggdrasil.marketplace import store_work
from yggdrasil.marketplace.breakdown import KEPT_HOURS, Work, WorkView
from yggdrasil.marketplace.hours import as_rows
from yggdrasil.marketplace.providers import Providers, check_may_change
from yggdrasil.marketplace.pseudonym import Pseudonyms
from yggdrasil.marketplace.requests import Offer
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.shown import OfferView, ProviderView, offer_view


class Selling:
    """Views of providers, for people of their own network alone."""

    def __init__(
        self,
        database: Database,
        providers: Providers,
        routing: Routing,
        pseudonyms: Pseudonyms,
        work: Work,
    ) -> None:
        self._database = database
        self._providers = providers
        self._routing = routing
        self._pseudonyms = pseudonyms
        self._work = work

    async def provider(self, scope: Network, provider_id: UUID) -> ProviderView:
        """A provider of the own network, with its offers."""
        found, offers = await self._providers.get(scope, provider_id)
        device_id = await self._providers.device_name(scope, found)
        online = self._routing.device_online(found.network_id, found.device)
        return ProviderView(
            provider_id=found.id,
            device_id=device_id,
            user_id=found.user_id,
            audience=found.audience,
            status=found.status,
            capacity_jobs=found.capacity_jobs,
            hours=as_rows(found.hours),
            zone=found.zone,
            jobs_running=self._routing.running(found.network_id, found.device),
            online=online,
            created_at=found.created_at,
            updated_at=found.updated_at,
            offers=[
                offer_view(
                    scope,
                    offer,
                    self._pseudonyms.name(scope.network_id, offer.id),
                    self._routing.standing(offer),
                    online=online,
                )
                for offer in offers
            ],
        )

    async def work(self, scope: Network, name: str, hours: int) -> WorkView:
        """Why a provider gets no work; see `WorkView`."""
        if not 1 <= hours <= KEPT_HOURS:
            raise InvalidInput(f"hours: must be 1 to {KEPT_HOURS}", field="hours")
        provider_id = provider_id_from(name)
        found, offers = await self._providers.get(scope, provider_id)
        check_may_change(scope, found)
        now = {f"{offer.kind}/{offer.model}": self._state(offer) for offer in offers}
        return await self._work.view(scope, provider_id, now, hours)

    async def shared(self, scope: Network, *, limit: int, cursor: str | None) -> Page:
        """The caller's devices, by their id, and for whom each works."""
        limit_from(limit)
        after = decode_cursor(cursor, parts=1)[0] if cursor is not None else None
        async with self._database.transaction(scope) as tx:
            rows = await store_work.shared_devices(
                tx, scope.network_id, scope.user_id, after=after, limit=limit + 1
            )
        items = rows[:limit]
        return Page(items=items, next=encode_cursor(items[-1].device_id) if len(rows) > limit else None)

    def offers_of(self, scope: Network) -> list[Offer]:
        """The caller's own offers, by model."""
        return self._routing.reach.of_user(scope)

    def shown(self, viewer: Network, offer: Offer) -> OfferView | None:
        """What a viewer is shown of an offer now; None if he may not know of it."""
        if not self._routing.may_see(viewer, offer):
            return None
        name = self._pseudonyms.name(viewer.network_id, offer.id)
        online = self._routing.online(offer)
        return offer_view(viewer, offer, name, self._routing.standing(offer), online=online)

    def _state(self, offer: Offer) -> str:
        """How an offer stands, in a word."""
        if offer.status != "active":
            return offer.status
        if not self._routing.takes_work(offer):
            return "outside_hours"
        if not self._routing.online(offer):
            return "offline"
        breaker = self._routing.breaker(offer)
        return "serving" if breaker == "closed" else f"breaker_{breaker}"


def provider_id_from(name: str) -> UUID:
    """A provider's id out of a path, or NotFound."""
    try:
        return UUID(name)
    except ValueError:
        raise NotFound from None
