"""Network ID hand-over seen from home: a yes from a device there, the list, and who may take it back."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support import ManualClock, SeededIds, as_superuser, make_network
from tests.users.conftest import Device, House, all_at_once
from tests.users.hand_over import Away, approve_body, register
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.kernel import Identity, Market, Network, Role, Settle, System
from yggdrasil.users import store_hand_over
from yggdrasil.users.store_hand_over import HandOver

ASK = "ask@example.org"
EMBLA = "embla@example.org"


async def at_home(house: House, email: str = ASK) -> tuple[Device, dict[str, str]]:
    device = Device()
    tokens = await house.sign_in(email, device)
    await register(house, tokens, device, f"home-{device.key_text[:8]}")
    return device, tokens


async def say_yes(house: House, home: Device, tokens: dict[str, str], flow: str, check: str) -> int:
    body = approve_body(home, flow, check, tokens["network_id"], house.at)
    path = f"/users/me/hand-over-asks/{flow}/approve"
    return (await house.post(path, body, tokens["access_token"])).status_code


async def test_a_yes_from_a_device_at_home_hands_over(house: House) -> None:
    home, tokens = await at_home(house)
    away = Away()
    asked, _ = await away.ask(house, ASK)
    flow = asked["flow"]
    waiting = await away.take(house, flow)
    assert (waiting.status_code, waiting.json()) == (200, {"state": "waiting", "sealed": None})
    (seen,) = (await house.get("/users/me/hand-over-asks", tokens["access_token"])).json()["items"]
    assert (seen["flow"], seen["device_name"], seen["device_key"]) == (flow, "hotel tablet", away.key_text)
    assert asked["check"] not in str(seen)  # it is typed, not waved through
    assert await say_yes(house, home, tokens, flow, asked["check"]) == 204
    taken = await away.take(house, flow)
    parcel = away.open(flow, taken.json()["sealed"])
    assert parcel["network_id"] == tokens["network_id"]
    assert (await house.get("/users/me", parcel["access_token"])).status_code == 200
    (one,) = (await house.get("/users/me/hand-overs", tokens["access_token"])).json()["items"]
    assert one["proven_by"] == "device"
    assert one["approved_by"] is not None
    assert "a device at home" in house.inbox.mails[-1].text
    assert (await away.take(house, flow)).status_code == 401


async def test_of_many_takers_of_a_yes_one_gets_it(house: House) -> None:
    home, tokens = await at_home(house)
    away, thief = Away(), Away()
    asked, _ = await away.ask(house, ASK)
    assert await say_yes(house, home, tokens, asked["flow"], asked["check"]) == 204
    answers = await all_at_once(*(device.take(house, asked["flow"]) for device in (thief, away) * 5))
    given = [answer for answer in answers if answer.status_code == 200]
    assert len(given) == 1
    assert away.opens(asked["flow"], given[0].json()["sealed"])


async def test_a_wrong_number_is_a_try_and_the_sixth_never_counts(house: House) -> None:
    home, tokens = await at_home(house)
    away = Away()
    asked, code = await away.ask(house, ASK)
    flow, check = asked["flow"], asked["check"]
    wrong = f"{(int(check) + 1) % 10**6:06d}"
    burst = await all_at_once(*(say_yes(house, home, tokens, flow, wrong) for _ in range(20)))
    assert set(burst) == {404}
    assert await say_yes(house, home, tokens, flow, check) == 404
    assert (await away.take(house, flow)).status_code == 401
    assert (await away.take(house, flow, code)).status_code == 401


async def test_no_one_else_says_yes_or_no_and_all_are_answered_alike(house: House) -> None:
    home, tokens = await at_home(house)
    stranger, theirs = await at_home(house, EMBLA)
    away = Away()
    asked, _ = await away.ask(house, ASK)
    flow, never = asked["flow"], str(house.ids.uuid())
    assert (await house.get("/users/me/hand-over-asks", theirs["access_token"])).json() == {"items": []}
    answers = set()
    for one in (flow, never):
        body = approve_body(stranger, one, asked["check"], theirs["network_id"], house.at)
        path = f"/users/me/hand-over-asks/{one}"
        for answer in (
            await house.post(f"{path}/approve", body, theirs["access_token"]),
            await house.delete(path, theirs["access_token"]),
        ):
            answers.add((answer.status_code, answer.text))
    assert len(answers) == 1
    assert answers.pop()[0] == 404
    # Nothing of it was spent.
    assert await say_yes(house, home, tokens, flow, asked["check"]) == 204
    # And none of the proofs of one network or ask serves another.
    asked, _ = await away.ask(house, ASK)
    for network_id, signed_flow in ((theirs["network_id"], asked["flow"]), (tokens["network_id"], flow)):
        body = approve_body(home, signed_flow, asked["check"], network_id, house.at)
        answer = await house.post(
            f"/users/me/hand-over-asks/{asked['flow']}/approve", body, tokens["access_token"]
        )
        assert (answer.status_code, answer.json()["field"]) == (400, "proof")


async def test_a_no_ends_the_ask(house: House) -> None:
    home, tokens = await at_home(house)
    away = Away()
    asked, code = await away.ask(house, ASK)
    flow = asked["flow"]
    assert (await house.delete(f"/users/me/hand-over-asks/{flow}", tokens["access_token"])).status_code == 204
    assert (await house.get("/users/me/hand-over-asks", tokens["access_token"])).json() == {"items": []}
    assert await say_yes(house, home, tokens, flow, asked["check"]) == 404
    assert (await away.take(house, flow, code)).status_code == 401


async def test_only_a_registered_device_with_its_own_session_says_yes(house: House) -> None:
    unregistered = Device()
    tokens = await house.sign_in(ASK, unregistered)
    asked, _ = await Away().ask(house, ASK)
    flow, check = asked["flow"], asked["check"]
    assert await say_yes(house, unregistered, tokens, flow, check) == 403
    key = (await house.post("/keys", {"name": "x"}, tokens["access_token"])).json()["key"]
    body = approve_body(unregistered, flow, check, tokens["network_id"], house.at)
    answer = await house.post(f"/users/me/hand-over-asks/{flow}/approve", body, key)
    assert answer.status_code == 403
    # A stolen token without the key of its device is no device.
    await register(house, tokens, unregistered)
    answer = await house.post(
        f"/users/me/hand-over-asks/{flow}/approve",
        approve_body(Device(), flow, check, tokens["network_id"], house.at),
        tokens["access_token"],
    )
    assert (answer.status_code, answer.json()["field"]) == (400, "proof")
    # What was handed over hands nothing on, though it be registered.
    away = Away()
    parcel = await away.handed(house, ASK)
    await register(house, parcel, away, "away")
    assert await say_yes(house, away, parcel, flow, check) == 403
    assert await say_yes(house, unregistered, tokens, flow, check) == 204


async def test_a_yes_ends_with_the_session_that_gave_it(house: House) -> None:
    home, tokens = await at_home(house)
    away = Away()
    asked, _ = await away.ask(house, ASK)
    assert await say_yes(house, home, tokens, asked["flow"], asked["check"]) == 204
    assert (await house.post("/users/logout", None, tokens["access_token"])).status_code == 204
    assert (await away.take(house, asked["flow"])).status_code == 401


async def test_a_yes_expires(house: House) -> None:
    home, tokens = await at_home(house)
    away = Away()
    asked, _ = await away.ask(house, ASK)
    assert await say_yes(house, home, tokens, asked["flow"], asked["check"]) == 204
    house.clock.advance(600)
    assert (await away.take(house, asked["flow"])).status_code == 401


async def joined(house: House, tokens: dict[str, str], network_id: str, role: str, admin: Login) -> None:
    """The person becomes a member of another network, which is now where its sessions are."""
    await as_superuser(
        house.database,
        admin,
        "INSERT INTO identity.memberships (network_id, user_id, role, created_at) VALUES"
        f" ('{network_id}', '{tokens['user_id']}', '{role}', $1)",
        house.clock.now(),
    )
    await as_superuser(
        house.database,
        admin,
        f"UPDATE identity.accounts SET home_network_id = '{network_id}'"
        f" WHERE user_id = '{tokens['user_id']}'",
    )


async def test_the_owner_sees_and_revokes_what_a_member_was_handed(house: House, admin: Login) -> None:
    _, owner = await at_home(house)
    await joined(house, await house.sign_in(EMBLA, Device()), owner["network_id"], "guest", admin)
    _, member = await at_home(house, EMBLA)
    assert (member["network_id"], member["role"]) == (owner["network_id"], "guest")
    away = Away()
    parcel = await away.handed(house, EMBLA)
    assert (parcel["network_id"], parcel["role"]) == (owner["network_id"], "guest")
    told = {mail.to: mail.text for mail in house.inbox.mails[-2:]}
    assert set(told) == {ASK, EMBLA}
    assert EMBLA not in told[ASK]
    mine = await Away().handed(house, ASK)

    async def listed(tokens: dict[str, str]) -> set[str]:
        answer = await house.get("/users/me/hand-overs", tokens["access_token"])
        return {one["hand_over_id"] for one in answer.json()["items"]}

    assert await listed(owner) == {parcel["hand_over_id"], mine["hand_over_id"]}
    assert await listed(member) == {parcel["hand_over_id"]}
    # A guest neither sees nor ends the owner's, and is answered as for one that never was.
    answers = [
        await house.delete(f"/users/me/hand-overs/{one}", member["access_token"])
        for one in (mine["hand_over_id"], house.ids.uuid())
    ]
    assert [one.status_code for one in answers] == [404, 404]
    assert answers[0].text == answers[1].text
    assert (await house.get("/users/me", mine["access_token"])).status_code == 200
    path = f"/users/me/hand-overs/{parcel['hand_over_id']}"
    assert (await house.delete(path, owner["access_token"])).status_code == 204
    assert (await house.get("/users/me", parcel["access_token"])).status_code == 401


async def test_a_member_who_left_is_handed_nothing(house: House, admin: Login) -> None:
    _, owner = await at_home(house)
    await joined(house, await house.sign_in(EMBLA, Device()), owner["network_id"], "member", admin)
    home, member = await at_home(house, EMBLA)
    away = Away()
    asked, _ = await away.ask(house, EMBLA)
    assert await say_yes(house, home, member, asked["flow"], asked["check"]) == 204
    await as_superuser(
        house.database,
        admin,
        f"DELETE FROM identity.memberships WHERE user_id = '{member['user_id']}'"
        f" AND network_id = '{owner['network_id']}'",
    )
    assert (await away.take(house, asked["flow"])).status_code == 401
    assert await as_superuser(house.database, admin, "SELECT * FROM tenant.hand_overs") == []


# ---- what the tables promise -------------------------------------------------------------------------------


async def given(database: Database, ids: SeededIds, clock: ManualClock, scope: Network) -> HandOver:
    made = HandOver(
        ids.uuid(),
        scope.user_id,
        ids.uuid(),
        bytes(32),
        "x",
        "code",
        None,
        clock.now(),
        clock.now(),
        clock.now(),
    )
    async with database.transaction(Identity(scope.network_id, scope.user_id)) as tx:
        await store_hand_over.insert_hand_over(tx, scope.network_id, made)
    return made


async def test_who_sees_a_hand_over(database: Database, ids: SeededIds, clock: ManualClock) -> None:
    owner = await make_network(database, ids, clock)
    mates = {
        role: await make_network(database, ids, clock, home=owner.network_id, role=role)
        for role in (Role.ADMIN, Role.MEMBER, Role.GUEST)
    }
    stranger = await make_network(database, ids, clock)
    made = await given(database, ids, clock, mates[Role.MEMBER])
    sees = {"owner": owner, "stranger": stranger, **mates}
    for name, scope in sees.items():
        async with database.transaction(scope) as tx:
            found = await store_hand_over.select_hand_over(tx, owner.network_id, made.hand_over_id)
            await store_hand_over.revoke_hand_over(
                tx, owner.network_id, made.hand_over_id, scope.user_id, clock.now()
            )
            after = await store_hand_over.select_hand_over(tx, owner.network_id, made.hand_over_id)
            assert (found is not None) == (name in ("owner", Role.ADMIN, Role.MEMBER)), name
            assert after is None or after.revoked_by == owner.user_id
    for denied in (Market(), Settle((owner.network_id,))):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(denied) as tx:
                await tx.fetch("SELECT * FROM tenant.hand_overs")


async def test_nobody_writes_a_hand_over_for_another(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    ours, theirs = [await make_network(database, ids, clock) for _ in range(2)]
    made = await given(database, ids, clock, ours)
    for claimed in (
        Identity(theirs.network_id, ours.user_id),
        Identity(ours.network_id, theirs.user_id),
        Identity(),
        ours,
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(claimed) as tx:
                await store_hand_over.insert_hand_over(tx, ours.network_id, made)
    # A revocation is under one's own name, and is all that can be changed.
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(ours) as tx:
            await store_hand_over.revoke_hand_over(
                tx, ours.network_id, made.hand_over_id, theirs.user_id, clock.now()
            )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(ours) as tx:
            await tx.execute("UPDATE tenant.hand_overs SET ends_at = $1", clock.now())


async def test_only_the_retention_job_drops_hand_overs(
    database: Database, ids: SeededIds, clock: ManualClock, admin: Login
) -> None:
    for _ in range(2):
        await given(database, ids, clock, await make_network(database, ids, clock))
    later = clock.advance(60)
    async with database.transaction(System("another-job")) as tx:
        await store_hand_over.delete_old_hand_overs(tx, later)
    assert len(await as_superuser(database, admin, "SELECT * FROM tenant.hand_overs")) == 2
    async with database.transaction(System("session-retention")) as tx:
        await store_hand_over.delete_old_hand_overs(tx, later)
    assert await as_superuser(database, admin, "SELECT * FROM tenant.hand_overs") == []
