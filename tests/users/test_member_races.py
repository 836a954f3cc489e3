"""What happens at once has an order: changes, removals, acceptances, deletions, look-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

import pytest

from tests.support import as_superuser
from tests.users.conftest import House, all_at_once
from tests.users.people import Person, member, person
from yggdrasil.db import Tx
from yggdrasil.db.address import Login
from yggdrasil.errors import Forbidden, Unauthenticated, Unavailable
from yggdrasil.kernel import Network, Role
from yggdrasil.users import store


async def key_of(one: Person) -> str:
    text: str = (await one.post("/keys", {"name": "app"})).json()["key"]
    return text


async def test_removed_while_accepting_has_an_order(house: House) -> None:
    """A member holds a second invitation; removal and acceptance at once leave one of two worlds."""
    ask = await person(house, "ask")
    home, _ = await member(ask, "embla")
    outcomes = set()
    for _ in range(4):
        text = await ask.invite(home.email)
        accepted, removed = await all_at_once(home.accept(text), ask.delete(f"/members/{home.user_id}"))
        assert removed.status_code == 204
        # Before the removal it is refused (a member already), after it it joins anew.
        assert accepted.status_code in (201, 409)
        in_it = (await home.switch(ask.network_id)).status_code
        assert in_it == (200 if accepted.status_code == 201 else 404)
        outcomes.add(accepted.status_code)
        if in_it == 404:
            assert (await home.accept(text)).status_code == 201
    assert outcomes <= {201, 409}


async def test_a_role_lowered_during_a_request_counts_for_it(house: House) -> None:
    """The admin's requests have passed the gate when the role changes: they are refused by the new one."""
    ask = await person(house, "ask")
    home, inside = await member(ask, "embla", "admin")
    _, edgar = await member(ask, "edgar", "guest")
    scope = await house.users.authenticate(f"Bearer {inside.token}")
    members, inviting = house.users.members, house.users.inviting
    lock = f"SELECT pg_advisory_xact_lock(hashtextextended('members:{ask.network_id}', 18))"

    def late() -> list[Coroutine[Any, Any, Any]]:
        return [
            members.change_role(scope, UUID(edgar.user_id), Role.MEMBER),
            members.remove(scope, UUID(edgar.user_id)),
            inviting.invite(scope, email="x@example.org", role=Role.GUEST, name="House"),
            inviting.revoke(scope, house.ids.uuid()),
        ]

    async with house.database.transaction(Network(UUID(ask.network_id), UUID(ask.user_id))) as tx:
        await tx.execute(lock)
        waiting = asyncio.gather(*late(), return_exceptions=True)
        await asyncio.sleep(0.3)  # they stand in front of the lock
        assert not waiting.done()
        await tx.execute("SELECT 1")
    assert {type(one).__name__ for one in await waiting} <= {
        "MemberInfo",
        "NoneType",
        "InvitationInfo",
        "NotFound",
    }
    assert (await ask.put(f"/members/{home.user_id}", {"role": "guest"})).status_code == 200
    for one in late():
        with pytest.raises(Forbidden, match="needs the role admin; yours is guest"):
            await one
    assert (await ask.delete(f"/members/{home.user_id}")).status_code == 204
    for one in late():
        with pytest.raises(Unauthenticated):
            await one
    assert (await ask.get("/members/invitations")).json()["items"] == []
    async with house.vault.transaction() as tx:
        assert await tx.fetch("SELECT flow FROM vault.flows") == []


async def test_changes_at_once_have_an_order_and_a_network_one_owner(house: House, admin: Login) -> None:
    ask = await person(house, "ask")
    _, one = await member(ask, "embla", "admin")
    _, two = await member(ask, "edgar", "member")
    answers = await all_at_once(
        ask.put(f"/members/{two.user_id}", {"role": "admin"}),
        one.delete(f"/members/{two.user_id}"),
        ask.put(f"/members/{one.user_id}", {"role": "guest"}),
    )
    statuses = [answer.status_code for answer in answers]
    assert statuses[0] in (200, 404)
    assert statuses[1] in (204, 401, 403)
    assert statuses[2] == 200
    # Whatever came first: gone if the removal did, an admin if not.
    roles = {one["user_id"]: one["role"] for one in (await ask.get("/members")).json()["items"]}
    assert (two.user_id not in roles) == (statuses[1] == 204)
    with pytest.raises(Exception, match="memberships_one_owner"):
        await as_superuser(
            house.database,
            admin,
            "UPDATE identity.memberships SET role = 'owner', name = NULL, invited_by = NULL,"
            " accepted_key = NULL WHERE user_id = $1",
            one.user_id,
        )


async def test_a_network_that_ends_takes_nobody_in(house: House, admin: Login) -> None:
    for number in range(4):
        ask, embla = await person(house, f"ask{number}"), await person(house, f"embla{number}")
        text = await ask.invite(embla.email)
        joined, deleted = await all_at_once(embla.accept(text), ask.delete("/users/me"))
        assert (deleted.status_code, joined.status_code) in ((204, 201), (204, 404))
        assert [one["role"] for one in (await embla.get("/users/me/networks")).json()["items"]] == ["owner"]


async def test_a_key_that_is_looked_up_while_its_role_changes_has_the_new_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = await person(house, "ask")
    home, inside = await member(ask, "embla", "admin")
    key = await key_of(inside)
    real = store.select_role
    changes = iter(({"role": "member"}, {"role": "guest"}))

    async def slow(tx: Tx, network_id: UUID, user_id: UUID) -> tuple[Role, int] | None:
        found = await real(tx, network_id, user_id)
        if change := next(changes, None):  # read, and not yet used, when it changes
            changing = asyncio.create_task(ask.put(f"/members/{home.user_id}", change))
            assert (await changing).status_code == 200
        return found

    monkeypatch.setattr(store, "select_role", slow)
    assert (await house.users.authenticate(f"Bearer {key}")).role is Role.GUEST
    assert (await house.users.authenticate(f"Bearer {key}")).role is Role.GUEST
    changes = iter([{"role": "member"}, {"role": "guest"}] * 2)
    house.clock.advance(house.users.settings.key_cache_seconds)
    with pytest.raises(Unavailable):
        await house.users.authenticate(f"Bearer {key}")


async def test_an_account_that_is_being_deleted_joins_nothing(house: House, admin: Login) -> None:
    ask = await person(house, "ask")
    for number in range(4):
        embla = await person(house, f"embla{number}")
        text = await ask.invite(embla.email)
        joined, deleted = await all_at_once(embla.accept(text), embla.delete("/users/me"))
        assert deleted.status_code == 204
        assert joined.status_code in (201, 401, 404)
        rows = await as_superuser(
            house.database,
            admin,
            "SELECT 1 FROM identity.memberships WHERE user_id = $1 AND network_id = $2",
            embla.user_id,
            ask.network_id,
        )
        assert rows == []
