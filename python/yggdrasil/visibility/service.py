"""Who can see me. Nothing here knows a rule: each object is looked for as somebody of each role would.

A viewer other than the person is told apart by the role alone, so four looks answer for every member: under
the scope of a nobody, with an id that was made for this look and is no member's, in the person's own network.
They read the person's own rows and nothing else; what the policies leave is what a request would show. Offers
and providers are judged by the functions that judge requests. `tests/visibility` holds every pair of viewer
and object against real requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from yggdrasil.admin.operators import Operators
from yggdrasil.db import Database
from yggdrasil.devices.paging import decode_cursor, encode_cursor, limit_from
from yggdrasil.devices.service import Devices
from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import IdSource, Network, Role
from yggdrasil.marketplace.allowed import may_look
from yggdrasil.marketplace.requests import Offer
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.marketplace.shown import OfferView
from yggdrasil.users.roles import Action, may
from yggdrasil.users.service import Users
from yggdrasil.users.store_hand_over import LiveSession
from yggdrasil.visibility import store
from yggdrasil.visibility.store import Seen

OPENINGS_SHOWN_MAX: Final = 20
KEYS_SHOWN_MAX: Final = 100

SeenBy = dict[Any, list[Role]]


@dataclass(frozen=True, slots=True)
class Looks:
    """What there is of the person, and what each role sees of it."""

    mine: Seen
    offers: list[Offer]
    by_role: Mapping[Role, Seen]
    offers_by_role: Mapping[Role, set[UUID]]

    def device_roles(self, device: UUID) -> list[Role]:
        return [role for role, seen in self.by_role.items() if device in {one.id for one in seen.devices}]

    def provider_roles(self, provider: UUID) -> list[Role]:
        return [role for role, seen in self.by_role.items() if provider in {one.id for one in seen.providers}]

    def offer_roles(self, offer: UUID) -> list[Role]:
        return [role for role, seen in self.offers_by_role.items() if offer in seen]

    def hand_over_roles(self, hand_over: UUID) -> list[Role]:
        return [
            role
            for role, seen in self.by_role.items()
            if hand_over in {one.hand_over_id for one in seen.hand_overs}
        ]

    def opening_roles(self, opening: UUID) -> list[Role]:
        return [role for role, seen in self.by_role.items() if opening in seen.openings]

    def key_roles(self, key: UUID) -> list[Role]:
        return [role for role, seen in self.by_role.items() if key in seen.keys]

    def request_roles(self) -> list[Role]:
        return [role for role, seen in self.by_role.items() if seen.requests]

    def audit_roles(self) -> list[Role]:
        # Whether there is anything in it yet would tell what other members do.
        return [role for role in self.by_role if may(role, Action.AUDIT)]

    def counts(self, role: Role) -> dict[str, int]:
        """How many of each kind a member with this role sees."""
        seen = self.by_role[role]
        return {
            "devices": len(seen.devices),
            "providers": len(seen.providers),
            "offers": len(self.offers_by_role[role]),
            "hand_overs": len(seen.hand_overs),
            "openings": len(seen.openings),
            "api_keys": len(seen.keys),
        }

    def sees_any(self, role: Role) -> bool:
        seen = self.by_role[role]
        return seen.requests or may(role, Action.AUDIT) or any(self.counts(role).values())


@dataclass(frozen=True, slots=True)
class OwnOffer:
    """An offer of the person's. `market`: what every other network is shown of it now, or None."""

    view: OfferView
    seen_by: list[Role]
    market: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that shows the person to somebody, and everything that acts as the person."""

    looks: Looks
    offers: list[OwnOffer]
    openings: list[dict[str, Any]]
    sessions: list[LiveSession]
    keys: list[Any]


class Visibility:
    """Answers a person about the network of the token, and no other."""

    def __init__(
        self,
        database: Database,
        ids: IdSource,
        *,
        users: Users,
        devices: Devices,
        marketplace: Marketplace,
        operators: Operators,
    ) -> None:
        self._database = database
        self._ids = ids
        self._users = users
        self._devices = devices
        self._marketplace = marketplace
        self._operators = operators

    async def report(self, scope: Network) -> Report:
        """What of the caller is seen, and by which roles of the network."""
        sessions = await self._users.at_home.sessions(scope)
        openings = (await self._operators.openings(scope, OPENINGS_SHOWN_MAX, None)).items
        looks = await self._looks(scope, sessions, [one["opening_id"] for one in openings])
        keys, _ = await self._users.list_keys(scope, limit=KEYS_SHOWN_MAX)
        stranger = Network(self._ids.uuid(), self._ids.uuid())
        selling = self._marketplace.selling
        offers = []
        for offer in looks.offers:
            view, abroad = selling.shown(scope, offer), selling.shown(stranger, offer)
            if view is not None:
                market = None if abroad is None else _without_name(abroad)
                offers.append(OwnOffer(view, looks.offer_roles(offer.id), market))
        return Report(looks, offers, openings, sessions, keys)

    def online(self, scope: Network, device: UUID) -> bool:
        """The presence that goes with a device wherever it is seen."""
        return self._devices.online(scope.network_id, device)

    async def viewers(
        self, scope: Network, *, limit: int, cursor: str | None
    ) -> tuple[list[tuple[UUID, Role, dict[str, int]]], str | None]:
        """The members who see anything of the caller, with their role and how much of each kind."""
        limit_from(limit)
        try:
            after = UUID(decode_cursor(cursor, parts=1)[0]) if cursor is not None else None
        except ValueError:
            raise InvalidInput("cursor: must be the `next` of an earlier answer", field="cursor") from None
        sessions = await self._users.at_home.sessions(scope)
        openings = (await self._operators.openings(scope, OPENINGS_SHOWN_MAX, None)).items
        looks = await self._looks(scope, sessions, [one["opening_id"] for one in openings])
        roles = [role.value for role in Role if looks.sees_any(role)]
        async with self._database.transaction(scope) as tx:
            rows = await store.members(tx, scope.network_id, scope.user_id, roles, after, limit + 1)
        items = [(user_id, Role(role), looks.counts(Role(role))) for user_id, role in rows[:limit]]
        return items, encode_cursor(str(items[-1][0])) if len(rows) > limit else None

    async def _looks(self, scope: Network, sessions: Iterable[LiveSession], openings: list[UUID]) -> Looks:
        away = [session.session_id for session in sessions if session.ends_at is not None]
        mine = await self._look(scope, scope, away, openings)
        offers = self._marketplace.selling.offers_of(scope)
        by_role, offers_by_role = {}, {}
        for role in Role:
            nobody = Network(scope.network_id, self._ids.uuid(), role)
            by_role[role] = await self._look(nobody, scope, away, openings)
            offers_by_role[role] = {
                offer.id for offer in offers if self._marketplace.routing.may_see(nobody, offer)
            }
        return Looks(mine, offers, by_role, offers_by_role)

    async def _look(self, viewer: Network, person: Network, away: list[UUID], openings: list[UUID]) -> Seen:
        async with self._database.transaction(viewer) as tx:
            found = await store.seen(tx, person.network_id, person.user_id, away, openings)
        if viewer is person:  # what there is, also of a person whose role may ask no more
            return found
        shown = [one for one in found.providers if may_look(viewer, one.audience, person.user_id)]
        return replace(found, providers=shown)


def _without_name(view: OfferView) -> dict[str, Any]:
    """Of the name there is one for each network; what is the same for all is told."""
    return {
        name: getattr(view, name)
        for name in view.__struct_fields__
        if name != "offer" and getattr(view, name) is not None
    }
