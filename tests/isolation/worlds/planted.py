"""Leaks planted on purpose: the controls of the oracle. Each is a mistake that somebody could make."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace as with_fields

from tests.isolation.worlds.stage import Stage
from yggdrasil.bifrost.hub import Member
from yggdrasil.devices.service import Devices
from yggdrasil.errors import Conflict, Forbidden, NotFound
from yggdrasil.kernel import Network, System
from yggdrasil.marketplace import service as marketplace_service
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.marketplace.shown import OfferView
from yggdrasil.services import Services
from yggdrasil.users import mailing, signin
from yggdrasil.users import store as user_store

Plant = Callable[[pytest.MonkeyPatch, Stage], AbstractContextManager[None]]


@dataclass(frozen=True)
class Leak:
    """`kind`: the pair of worlds that must show it."""

    name: str
    kind: str
    plant: Plant


def _patch(change: Callable[[pytest.MonkeyPatch], None]) -> Plant:
    @contextlib.contextmanager
    def planted(patch: pytest.MonkeyPatch, on: Stage) -> Iterator[None]:
        with patch.context() as here:
            change(here)
            yield

    return planted


def _sql(make: str, undo: str) -> Plant:
    @contextlib.contextmanager
    def planted(patch: pytest.MonkeyPatch, on: Stage) -> Iterator[None]:
        houses = (on.alone, on.crowded)
        for house in houses:
            house.run(house.empty())  # rows of an earlier life could break a rule that is planted
            house.run(house.sql(make))
        try:
            yield
        finally:
            for house in houses:
                house.run(house.sql(undo))

    return planted


def _one_limiter(patch: pytest.MonkeyPatch) -> None:
    count_one = user_store.count_one

    async def counted(tx: Any, kind: str, key: bytes, *args: Any) -> Any:
        return await count_one(tx, kind, bytes(32), *args)

    patch.setattr(user_store, "count_one", counted)


def _ids_in_sequence(patch: pytest.MonkeyPatch) -> None:
    made: dict[int, int] = {}
    register = Devices.register

    async def counting(self: Devices, *args: Any, **fields: Any) -> Any:
        class Sequence:
            def uuid(_) -> UUID:  # noqa: N805
                made[id(self)] = made.get(id(self), 0) + 1
                return UUID(int=made[id(self)])

        before, self._ids = self._ids, Sequence()  # type: ignore[assignment]
        try:
            return await register(self, *args, **fields)
        finally:
            self._ids = before

    patch.setattr(Devices, "register", counting)


def _key_without_network(patch: pytest.MonkeyPatch) -> None:
    run = Marketplace.run

    async def remembering(self: Marketplace, scope: Network, request: Any) -> Any:
        taken = self.__dict__.setdefault("_planted", set())
        if request.idempotency_key is not None:
            if request.idempotency_key in taken:
                raise Conflict("idempotency_key: was used for another request", field="idempotency_key")
            taken.add(request.idempotency_key)
        return await run(self, scope, request)

    patch.setattr(Marketplace, "run", remembering)


def _sockets_in_readiness(patch: pytest.MonkeyPatch) -> None:
    readiness = Services.readiness

    async def telling(self: Services) -> Any:
        return {**await readiness(self), "sockets": self.hub.counts()[0]}

    patch.setattr(Services, "readiness", telling)


def _forbidden_is_not_absent(patch: pytest.MonkeyPatch) -> None:
    stored = Devices.stored

    async def telling(self: Devices, scope: Network, device_id: str) -> Any:
        try:
            return await stored(self, scope, device_id)
        except NotFound:
            async with self._database.transaction(System("reconciler")) as tx:
                row = await tx.fetchrow("SELECT 1 FROM tenant.devices WHERE device_id = $1", device_id)
            if row is not None:
                raise Forbidden("This device belongs to another network") from None
            raise

    patch.setattr(Devices, "stored", telling)


def _discover_for_all(patch: pytest.MonkeyPatch) -> None:
    directory = Devices.directory

    async def wide(self: Devices, member: Member) -> Any:
        mine = await directory(self, member)
        async with self._database.transaction(System("reconciler")) as tx:
            rows = await tx.fetch(
                "SELECT device_id FROM tenant.devices WHERE network_id <> $1", member.network_id
            )
        return [*mine, *(replace_device(mine, row["device_id"]) for row in rows if mine)]

    def replace_device(mine: list[Any], device_id: str) -> Any:
        return type(mine[0])(device_id=device_id)

    patch.setattr(Devices, "directory", wide)


def _mail_with_a_number(patch: pytest.MonkeyPatch) -> None:
    code_mail, sent = mailing.code_mail, {"mails": 0}

    def numbered(address: str, code: str, seconds: int) -> Any:
        sent["mails"] += 1
        mail = code_mail(address, code, seconds)
        return replace(mail, text=f"{mail.text}\nMail {sent['mails']} of this server.\n")

    patch.setattr(signin, "code_mail", numbered)


def _offers_name_their_owner(patch: pytest.MonkeyPatch) -> None:
    offer_view = marketplace_service.offer_view

    def naming(scope: Network, offer: Any, *args: Any, **more: Any) -> OfferView:
        view = offer_view(scope, offer, *args, **more)
        return view if view.mine else with_fields(view, model=f"{view.model}@{offer.network_id.hex[:4]}")

    patch.setattr(marketplace_service, "offer_view", naming)


def _offers_count_their_owners(patch: pytest.MonkeyPatch) -> None:
    offers = Marketplace.offers

    def counting(self: Marketplace, scope: Network, **more: Any) -> Any:
        page = offers(self, scope, **more)
        owners = {offer.network_id for offer in self.routing.visible(scope)}
        return type(page)(items=page.items, next=f"{page.next}.{len(owners)}")

    patch.setattr(Marketplace, "offers", counting)


def _own_is_for_the_network(patch: pytest.MonkeyPatch) -> None:
    may_see = Routing.may_see
    patch.setattr(
        Routing,
        "may_see",
        lambda self, scope, offer: offer.network_id == scope.network_id or may_see(self, scope, offer),
    )


def _transactions_of_all_members(patch: pytest.MonkeyPatch) -> None:
    transactions = Marketplace.transactions

    async def counting(self: Marketplace, scope: Network, **more: Any) -> Any:
        page = await transactions(self, scope, **more)
        async with self._database.transaction(System("reconciler")) as tx:
            sql = "SELECT count(*) FROM tenant.transactions WHERE network_id = $1"
            total = await tx.fetchval(sql, scope.network_id)
        return type(page)(items=page.items, next=f"{page.next}.{total}")

    patch.setattr(Marketplace, "transactions", counting)


LEAKS = (
    Leak(
        "a device id is unique over all networks",
        "strict",
        _sql(
            "CREATE UNIQUE INDEX planted ON tenant.devices (device_id)",
            "DROP INDEX tenant.planted",
        ),
    ),
    Leak("one limiter of codes for all addresses", "strict", _patch(_one_limiter)),
    Leak("ids of devices from a sequence", "strict", _patch(_ids_in_sequence)),
    Leak("an idempotency key remembered without its network", "strict", _patch(_key_without_network)),
    Leak("the readiness counts everybody's sockets", "strict", _patch(_sockets_in_readiness)),
    Leak(
        "a foreign device is forbidden, an absent one not found", "strict", _patch(_forbidden_is_not_absent)
    ),
    Leak("discover lists devices of all networks", "strict", _patch(_discover_for_all)),
    Leak("a mail says how many were sent", "strict", _patch(_mail_with_a_number)),
    Leak("an offer names its owner", "market", _patch(_offers_name_their_owner)),
    Leak("a page of offers counts their owners", "market", _patch(_offers_count_their_owners)),
    Leak("what is for oneself is offered to the network", "members", _patch(_own_is_for_the_network)),
    Leak("a page of transactions counts every member's", "members", _patch(_transactions_of_all_members)),
)
