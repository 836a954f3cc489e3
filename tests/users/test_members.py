"""Members come, change and go at once, in one network and in no other."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support import as_superuser
from tests.users.conftest import House
from tests.users.hand_over import Away
from tests.users.people import Person, member, person
from yggdrasil.db.address import Login
from yggdrasil.errors import Conflict, Unauthenticated
from yggdrasil.kernel import Network, Role
from yggdrasil.users.gate import ENDED_SECONDS, Revocation


async def alive(one: Person) -> bool:
    return (await one.get("/users/me")).status_code == 200


async def key_of(one: Person) -> str:
    text: str = (await one.post("/keys", {"name": "app"})).json()["key"]
    return text


async def key_lives(house: House, key: str) -> bool:
    return (await house.get("/users/me", key)).status_code == 200


async def test_removal_ends_everything_here_and_nothing_elsewhere(house: House) -> None:
    ask, loki = await person(house, "ask"), await person(house, "loki")
    home, inside = await member(ask, "embla")
    assert (await home.accept(await loki.invite(home.email))).status_code == 201
    elsewhere = await home.inside(loki.network_id)
    keys = [await key_of(one) for one in (home, inside, elsewhere)]
    heard: list[Revocation] = []
    house.users.on_revoked.append(heard.append)
    other_node = house.another_node()
    await other_node.start()
    for key in keys:
        assert await key_lives(house, key)
        await other_node.authenticate(f"Bearer {key}")

    assert (await ask.delete(f"/members/{home.user_id}")).status_code == 204
    assert heard == [Revocation(UUID(home.user_id), network_id=UUID(ask.network_id))]
    assert not await alive(inside)
    assert (await inside.refresh()).status_code == 401
    assert await alive(home)
    assert await alive(elsewhere)
    assert [await key_lives(house, key) for key in keys] == [True, False, True]
    assert (await home.switch(ask.network_id)).status_code == 404
    assert (await elsewhere.refresh()).status_code == 200
    networks = [one["network_id"] for one in (await home.get("/users/me/networks")).json()["items"]]
    assert networks == [home.network_id, loki.network_id]
    # Another node hears of it at its next sweep, keys it has in memory included.
    await other_node.sweep()
    for token, lives in zip(
        [home.token, inside.token, elsewhere.token, *keys], [True, False, True] * 2, strict=True
    ):
        if lives:
            await other_node.authenticate(f"Bearer {token}")
        else:
            with pytest.raises(Unauthenticated):
                await other_node.authenticate(f"Bearer {token}")
    assert (await ask.delete(f"/members/{home.user_id}")).status_code == 404


async def test_coming_back_revives_nothing(house: House) -> None:
    ask = await person(house, "ask")
    home, inside = await member(ask, "embla")
    key = await key_of(inside)
    assert (await ask.delete(f"/members/{home.user_id}")).status_code == 204
    assert (await home.accept(await ask.invite(home.email))).status_code == 201
    again = await home.inside(ask.network_id)
    assert await alive(again)
    assert not await alive(inside)
    assert (await inside.refresh()).status_code == 401
    assert not await key_lives(house, key)
    other_node = house.another_node()
    await other_node.start()
    await other_node.authenticate(f"Bearer {again.token}")
    with pytest.raises(Unauthenticated):
        await other_node.authenticate(f"Bearer {inside.token}")
    house.clock.advance(2 * ENDED_SECONDS + 1)
    await house.users.sweep()
    again.tokens = (await again.refresh()).json()
    assert await alive(again)


async def test_a_changed_role_holds_at_once(house: House) -> None:
    ask = await person(house, "ask")
    home, inside = await member(ask, "embla", "admin")
    key = await key_of(inside)
    scope = await house.users.authenticate(f"Bearer {key}")
    assert scope.role is Role.ADMIN
    heard: list[Revocation] = []
    house.users.on_revoked.append(heard.append)
    answer = await ask.put(f"/members/{home.user_id}", {"role": "member"})
    assert (answer.status_code, answer.json()["role"]) == (200, "member")
    assert answer.json()["email"] == home.email
    # The token that says admin is refused; its successor says member. Sockets carry no role, and stay.
    assert (await inside.get("/members")).status_code == 401
    inside.tokens = (await inside.refresh()).json()
    assert inside.tokens["role"] == "member"
    assert (await inside.get("/members")).status_code == 403
    assert (await house.users.authenticate(f"Bearer {key}")).role is Role.MEMBER
    assert await alive(home)
    assert [one.keeps_sockets for one in heard] == [True]
    assert (await ask.put(f"/members/{home.user_id}", {"role": "member"})).status_code == 200  # nothing to do
    assert await alive(inside)
    assert (await ask.put(f"/members/{home.user_id}", {"role": "guest"})).status_code == 200
    assert [one.keeps_sockets for one in heard] == [True, False]
    inside.tokens = (await inside.refresh()).json()
    assert inside.tokens["role"] == "guest"


async def test_who_may_change_whom(house: House) -> None:
    ask = await person(house, "ask")
    people: dict[str, Person] = {"owner": ask}
    for role in ("admin", "admin2", "member", "guest"):
        _, people[role] = await member(ask, f"the-{role}", role.removesuffix("2"))
    loki = await person(house, "loki")

    async def change(by: str, whom: str, role: str = "guest") -> int:
        return (await people[by].put(f"/members/{people[whom].user_id}", {"role": role})).status_code

    for by in ("member", "guest"):
        assert [await change(by, whom) for whom in people] == [403] * 5
        assert (await people[by].get("/members")).status_code == 403
        assert (await people[by].delete(f"/members/{people['guest'].user_id}")).status_code == 403
    # An admin: members and guests, to member and guest.
    assert [await change("admin", whom) for whom in ("owner", "admin", "admin2")] == [403] * 3
    assert await change("admin", "member", "admin") == 403
    assert (await people["admin"].delete(f"/members/{people['admin2'].user_id}")).status_code == 403
    assert (await people["admin"].delete(f"/members/{ask.user_id}")).status_code == 403
    assert await change("admin", "guest", "member") == 200
    # The owner: everybody but the owner.
    assert await change("owner", "owner") == 403
    assert (await ask.delete(f"/members/{ask.user_id}")).status_code == 403
    assert (await ask.put(f"/members/{people['guest'].user_id}", {"role": "owner"})).status_code == 400
    assert await change("owner", "guest", "admin") == 200
    assert await change("owner", "admin2", "member") == 200
    # Nobody of another network, and one answer for all that is not here.
    answers = [
        await loki.put(f"/members/{user}", {"role": "guest"}) for user in (ask.user_id, house.ids.uuid())
    ]
    answers += [await loki.delete(f"/members/{user}") for user in (people["admin"].user_id, house.ids.uuid())]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[0].content)}
    key = await key_of(ask)
    assert (await house.delete(f"/members/{people['member'].user_id}", key)).status_code == 403


async def test_the_list_of_members_is_for_those_who_manage_them(house: House) -> None:
    ask = await person(house, "ask")
    await ask.put("/users/me", {"display_name": "Ask"})
    home, inside = await member(ask, "embla", "admin")
    await home.put("/users/me", {"display_name": "Embla"})

    def seen(answer: Any) -> list[tuple[str, str | None, str | None]]:
        return [(one["role"], one["email"], one["display_name"]) for one in answer.json()["items"]]

    assert seen(await ask.get("/members")) == [
        ("owner", ask.email, "Ask"),
        ("admin", home.email, "Embla"),
    ]
    # What the inviter is called and where he reads mail was never told to those he invited.
    assert seen(await inside.get("/members")) == [("owner", None, None), ("admin", home.email, "Embla")]
    assert seen(await home.get("/members")) == [("owner", home.email, "Embla")]


async def test_leaving_is_for_everybody_but_the_owner(house: House) -> None:
    ask, loki = await person(house, "ask"), await person(house, "loki")
    home, inside = await member(ask, "embla", "guest")
    key = await key_of(inside)
    assert (await home.delete(f"/users/me/networks/{home.network_id}")).status_code == 409
    assert (await ask.delete(f"/users/me/networks/{ask.network_id}")).status_code == 409
    foreign = await home.delete(f"/users/me/networks/{loki.network_id}")
    never = await home.delete(f"/users/me/networks/{house.ids.uuid()}")
    assert (
        (foreign.status_code, foreign.content) == (never.status_code, never.content) == (404, never.content)
    )
    assert (await house.delete(f"/users/me/networks/{ask.network_id}", key)).status_code == 403
    assert (await home.delete(f"/users/me/networks/{ask.network_id}")).status_code == 204
    assert not await alive(inside)
    assert not await key_lives(house, key)
    assert await alive(home)
    assert (await home.delete(f"/users/me/networks/{ask.network_id}")).status_code == 404
    assert len((await ask.get("/members")).json()["items"]) == 1


async def test_switching_is_for_members_with_the_key_of_the_session(house: House) -> None:
    ask, loki = await person(house, "ask"), await person(house, "loki")
    home, inside = await member(ask, "embla")
    assert inside.tokens["role"] == "member"
    assert inside.tokens["session_id"] != home.tokens["session_id"]
    back = await inside.inside(home.network_id)
    assert back.tokens["role"] == "owner"
    assert await alive(home)
    foreign, never = await home.switch(loki.network_id), await home.switch(str(house.ids.uuid()))
    assert (foreign.status_code, foreign.content) == (404, never.content)
    assert (await home.switch(ask.network_id, at_seconds=house.at - 400)).status_code == 400
    # A signature for one network is none for another, and ends the session as a stolen token does.
    assert (await home.switch(ask.network_id, network_id=home.network_id)).status_code == 401
    assert not await alive(home)
    assert await alive(inside)
    assert (await home.switch(ask.network_id)).status_code == 401
    old = inside.tokens["refresh_token"]
    for _ in range(2):
        inside.tokens = (await inside.refresh()).json()
    inside.tokens["refresh_token"] = old
    assert (await inside.switch(home.network_id)).status_code == 401
    assert not await alive(inside)


async def test_a_deleted_account_leaves_everywhere_and_dissolves_its_own_network(
    house: House, admin: Login
) -> None:
    ask, loki = await person(house, "ask"), await person(house, "loki")
    embla_home, embla = await member(ask, "embla", "admin")
    assert (await ask.accept(await loki.invite(ask.email))).status_code == 201
    text = await ask.invite("edgar@example.org")
    edgar = await person(house, "edgar")
    assert (await ask.delete("/users/me")).status_code == 204
    assert not await alive(embla)
    assert await alive(embla_home)
    assert (await embla_home.switch(ask.network_id)).status_code == 404
    assert (await edgar.accept(text)).status_code == 404
    assert len((await loki.get("/members")).json()["items"]) == 1
    rows = await as_superuser(
        house.database,
        admin,
        "SELECT user_id::text FROM identity.memberships WHERE network_id = $1 OR user_id = $2",
        ask.network_id,
        ask.user_id,
    )
    assert rows == [{"user_id": ask.user_id}]
    # The address is free, and is another account from now on.
    again = await person(house, "ask")
    assert again.user_id != ask.user_id
    assert len((await again.get("/users/me/networks")).json()["items"]) == 1


async def test_a_refused_deletion_changes_nothing(house: House) -> None:
    ask, loki = await person(house, "ask"), await person(house, "loki")
    _, embla = await member(ask, "embla")
    await ask.accept(await loki.invite(ask.email))
    await ask.invite("edgar@example.org")

    async def refuse(scope: Network) -> None:
        assert scope.role is Role.OWNER
        raise Conflict("the wallet is not empty")

    house.users.close_network = refuse
    assert (await ask.delete("/users/me")).status_code == 409
    assert await alive(embla)
    assert len((await ask.get("/users/me/networks")).json()["items"]) == 2
    assert len((await ask.get("/members/invitations")).json()["items"]) == 1


async def test_a_network_and_a_person_have_limits(house: House) -> None:
    ask = await person(house, "ask")
    object.__setattr__(house.users.settings, "members_max", 2)
    await member(ask, "embla")
    edgar = await person(house, "edgar")
    text = await ask.invite(edgar.email)
    answer = await edgar.accept(text)
    assert (answer.status_code, "2 members" in answer.text) == (409, True)
    object.__setattr__(house.users.settings, "members_max", 3)
    object.__setattr__(house.users.settings, "memberships_max", 1)
    answer = await edgar.accept(text)
    assert (answer.status_code, "1 networks" in answer.text) == (409, True)
    object.__setattr__(house.users.settings, "memberships_max", 2)
    assert (await edgar.accept(text)).status_code == 201


async def test_a_network_that_was_handed_over_manages_nothing_and_switches_nowhere(house: House) -> None:
    """Away from home one signs in again: what would outlive the hand-over is not to be had from it."""
    ask, loki = await person(house, "ask"), await person(house, "loki")
    home, _ = await member(ask, "embla")
    await home.accept(await loki.invite(home.email))
    key = Away()
    away = Person(house, ask.email, key, await key.handed(house, ask.email))
    assert (await away.get("/users/me")).json()["role"] == "owner"
    text = await loki.invite(ask.email)
    body = {"email": "new@example.org", "role": "guest", "name": "House"}
    answers = [
        await away.get("/members"),
        await away.get("/members/invitations"),
        await away.post("/members/invitations", body),
        await away.put(f"/members/{home.user_id}", {"role": "admin"}),
        await away.delete(f"/members/{home.user_id}"),
        await away.accept(text),
        await away.get("/users/me/networks"),
        await away.delete(f"/users/me/networks/{loki.network_id}"),
    ]
    assert (await ask.accept(text)).status_code == 201
    answers.append(await away.switch(loki.network_id))
    assert [answer.status_code for answer in answers] == [403] * 9
    assert all("needs a device at home" in answer.text for answer in answers)
    assert await alive(away)
    assert [one["role"] for one in (await ask.get("/members")).json()["items"]] == ["owner", "member"]
