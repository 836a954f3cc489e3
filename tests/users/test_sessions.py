"""Tokens, refresh, theft, log-out, deletion: on this node, on another, and after a restart."""

from __future__ import annotations

import pytest

from tests.support import as_superuser
from tests.users.conftest import Device, House, all_at_once
from yggdrasil.db.address import Login
from yggdrasil.errors import Conflict, Unauthenticated
from yggdrasil.kernel import Network, System
from yggdrasil.users.gate import Revocation

ASK = "ask@example.org"


async def test_twins_and_late_retries_get_the_same_successor(house: House) -> None:
    device = Device()
    first = (await house.sign_in(ASK, device))["refresh_token"]
    body = device.refresh_body(first, house.at)
    twins = await all_at_once(*(house.post("/users/refresh", body) for _ in range(8)))
    assert [answer.status_code for answer in twins] == [200] * 8
    assert len({answer.content for answer in twins}) == 1
    house.clock.advance(3600)
    late = await house.post("/users/refresh", device.refresh_body(first, house.at))
    assert late.json()["refresh_token"] == twins[0].json()["refresh_token"]
    assert (await house.get("/users/me", late.json()["access_token"])).status_code == 200
    onward = await house.post("/users/refresh", device.refresh_body(late.json()["refresh_token"], house.at))
    assert onward.status_code == 200


async def test_a_token_with_another_key_ends_the_family(house: House) -> None:
    device, thief = Device(), Device()
    tokens = await house.sign_in(ASK, device)
    other = await house.sign_in(ASK, device)
    told: list[Revocation] = []
    house.users.on_revoked.append(told.append)
    stolen = await house.post("/users/refresh", thief.refresh_body(tokens["refresh_token"], house.at))
    assert stolen.status_code == 401
    assert [str(revocation.session_id) for revocation in told] == [tokens["session_id"]]
    assert (await house.get("/users/me", tokens["access_token"])).status_code == 401
    honest = await house.post("/users/refresh", device.refresh_body(tokens["refresh_token"], house.at))
    assert honest.status_code == 401
    # The person's other session is not touched.
    assert (await house.get("/users/me", other["access_token"])).status_code == 200


async def test_an_old_token_ends_the_family(house: House) -> None:
    device = Device()
    tokens = [(await house.sign_in(ASK, device))["refresh_token"]]
    for _ in range(2):
        answer = await house.post("/users/refresh", device.refresh_body(tokens[-1], house.at))
        tokens.append(answer.json()["refresh_token"])
    assert (await house.post("/users/refresh", device.refresh_body(tokens[1], house.at))).status_code == 200
    assert (await house.post("/users/refresh", device.refresh_body(tokens[0], house.at))).status_code == 401
    assert (await house.post("/users/refresh", device.refresh_body(tokens[2], house.at))).status_code == 401


async def test_a_clock_that_is_off_does_not_end_the_session(house: House) -> None:
    device = Device()
    token = (await house.sign_in(ASK, device))["refresh_token"]
    for off in (-301, 301):
        answer = await house.post("/users/refresh", device.refresh_body(token, house.at + off))
        assert (answer.status_code, answer.json()["field"]) == (400, "at_seconds")
    assert (await house.post("/users/refresh", device.refresh_body(token, house.at))).status_code == 200


async def test_forged_refresh_tokens_are_refused(house: House) -> None:
    device = Device()
    token = (await house.sign_in(ASK, device))["refresh_token"]
    for forged in (
        token[:-1],
        token[:-4] + "AAAA",
        "ygr_" + "A" * (len(token) - 4),
        token + "A",
        "ü" * len(token),
    ):
        answer = await house.post("/users/refresh", device.refresh_body(forged, house.at))
        assert answer.status_code in (400, 401)
    assert (await house.post("/users/refresh", device.refresh_body(token, house.at))).status_code == 200


async def test_a_session_ends_when_unused_and_in_any_case(house: House) -> None:
    device, settings = Device(), house.users.settings
    token = (await house.sign_in(ASK, device))["refresh_token"]
    days = 0
    while True:
        house.clock.advance(20 * 86_400)
        days += 20
        answer = await house.post("/users/refresh", device.refresh_body(token, house.at))
        if answer.status_code != 200:
            break
        token = answer.json()["refresh_token"]
    assert days * 86_400 == settings.session_seconds_max
    token = (await house.sign_in(ASK, device))["refresh_token"]
    house.clock.advance(settings.session_idle_seconds)
    assert (await house.post("/users/refresh", device.refresh_body(token, house.at))).status_code == 401


async def test_the_oldest_session_makes_room(house: House) -> None:
    device, limit = Device(), house.users.settings.sessions_max
    first = await house.sign_in(ASK, device)
    for _ in range(limit):
        house.clock.advance(300)
        last = await house.sign_in(ASK, device, known=True)
    refused = await house.post("/users/refresh", device.refresh_body(first["refresh_token"], house.at))
    assert refused.status_code == 401
    assert (await house.get("/users/me", last["access_token"])).status_code == 200


async def test_a_log_out_is_heard_by_other_nodes_and_after_a_restart(house: House) -> None:
    other = house.another_node()
    tokens = await house.sign_in(ASK, Device())
    authorization = f"Bearer {tokens['access_token']}"
    scope = await other.authenticate(authorization)
    assert scope == await house.users.authenticate(authorization)
    told: list[Revocation] = []
    other.on_revoked.append(told.append)
    await house.users.logout(scope)
    assert await refuses(house, authorization)
    await other.sweep()
    await other.sweep()
    assert [revocation.session_id for revocation in told] == [scope.session_id]
    restarted = house.another_node()
    await restarted.start()
    for node in (other, restarted):
        with pytest.raises(Unauthenticated):
            await node.authenticate(authorization)


async def refuses(house: House, authorization: str) -> bool:
    answer = await house.client.get("/api/v1/users/me", headers={"authorization": authorization})
    return answer.status_code == 401


async def test_access_tokens_ask_no_database(house: House) -> None:
    tokens = await house.sign_in(ASK, Device())
    await house.database.close()
    scope = await house.users.authenticate(f"Bearer {tokens['access_token']}")
    assert str(scope.user_id) == tokens["user_id"]


async def test_deletion_erases_the_person_and_ends_everything(house: House, admin: Login) -> None:
    device = Device()
    tokens = await house.sign_in(ASK, device)
    key = (await house.post("/keys", {"name": "ci"}, tokens["access_token"])).json()["key"]
    assert (await house.get("/users/me", key)).status_code == 200
    told: list[Revocation] = []
    house.users.on_revoked.append(told.append)
    assert (await house.delete("/users/me", key)).status_code == 403
    assert (await house.delete("/users/me", tokens["access_token"])).status_code == 204
    assert [str(revocation.user_id) for revocation in told] == [tokens["user_id"]]
    for credential in (tokens["access_token"], key):
        assert (await house.get("/users/me", credential)).status_code == 401
    refused = await house.post("/users/refresh", device.refresh_body(tokens["refresh_token"], house.at))
    assert refused.status_code == 401
    async with house.vault.transaction() as tx:
        assert await tx.fetchval("SELECT state FROM vault.subjects WHERE wrapped_key IS NULL") == "erased"
        assert await tx.fetchval("SELECT count(*) FROM vault.fields") == 0
        assert await tx.fetchval("SELECT count(*) FROM vault.addresses") == 0
    rows = await as_superuser(house.database, admin, "SELECT status FROM identity.accounts")
    assert [row["status"] for row in rows] == ["deleted"]
    assert await as_superuser(house.database, admin, "SELECT * FROM identity.known_devices") == []
    # The address is free for a new person, who has nothing of the old one.
    again = await house.sign_in(ASK, device)
    assert again["user_id"] != tokens["user_id"]
    assert again["network_id"] != tokens["network_id"]


async def test_an_erasure_the_vault_missed_is_finished_later(house: House) -> None:
    tokens = await house.sign_in(ASK, Device())
    await house.sign_in("embla@example.org", Device())
    erase = house.mimir.erase

    async def away(*_: object) -> bool:
        raise RuntimeError("the vault is away")

    house.mimir.erase = away  # type: ignore[method-assign]
    assert (await house.delete("/users/me", tokens["access_token"])).status_code == 500
    house.mimir.erase = erase  # type: ignore[method-assign]
    assert (await house.get("/users/me", tokens["access_token"])).status_code == 401
    again = await house.sign_in(ASK, Device())
    assert again["user_id"] != tokens["user_id"]
    await house.users.sweep()
    async with house.vault.transaction() as tx:
        rows = await tx.fetch("SELECT state, count(*) AS n FROM vault.subjects GROUP BY state ORDER BY state")
    assert [(row["state"], row["n"]) for row in rows] == [("active", 2), ("erased", 1)]


async def test_the_sweep_alone_finishes_an_erasure(house: House) -> None:
    tokens = await house.sign_in(ASK, Device())
    await house.sign_in("embla@example.org", Device())
    erase = house.mimir.erase

    async def away(*_: object) -> bool:
        raise RuntimeError("the vault is away")

    house.mimir.erase = away  # type: ignore[method-assign]
    await house.delete("/users/me", tokens["access_token"])
    house.mimir.erase = erase  # type: ignore[method-assign]
    await house.users.sweep()
    async with house.vault.transaction() as tx:
        rows = await tx.fetch("SELECT state FROM vault.subjects ORDER BY state")
    assert [row["state"] for row in rows] == ["active", "erased"]


async def test_the_app_may_stop_a_deletion(house: House) -> None:
    tokens = await house.sign_in(ASK, Device())

    async def no(_: Network) -> None:
        raise Conflict("there is money in the wallet")

    house.users.close_network = no
    answer = await house.delete("/users/me", tokens["access_token"])
    assert (answer.status_code, answer.json()["detail"]) == (409, "there is money in the wallet")
    assert (await house.get("/users/me", tokens["access_token"])).status_code == 200


async def test_old_sessions_are_dropped(house: House, admin: Login) -> None:
    tokens = await house.sign_in(ASK, Device())
    await house.post("/users/logout", None, tokens["access_token"])
    await house.sign_in(ASK, Device())
    house.clock.advance(31 * 86_400)
    kept = await house.sign_in(ASK, Device())
    await house.users.sweep()
    house.clock.advance(40 * 86_400)
    await house.users.sweep()
    rows = await as_superuser(house.database, admin, "SELECT session_id FROM identity.sessions")
    assert [str(row["session_id"]) for row in rows] == [kept["session_id"]]


async def test_no_address_or_name_is_readable_in_either_database(house: House, admin: Login) -> None:
    canaries = ("canary-address", "canary-name", "canary.example")
    device = Device()
    body = device.login_body("canary-address@canary.example") | {"display_name": "canary-name"}
    await house.post("/users/register", body)
    await house.users.postman.drain()
    tokens = await house.sign_in("canary-address@canary.example", device)
    await house.put("/users/me", {"display_name": "canary-name"}, tokens["access_token"])
    await house.start("canary-address@canary.example", Device())
    me = (await house.get("/users/me", tokens["access_token"])).json()
    assert me["display_name"] == "canary-name"
    everything = ""
    for database in (house.database, house.vault):
        everything += await whole_text(database, admin)
    assert tokens["user_id"] in everything  # the control: the scan does see rows
    for canary in canaries:
        assert canary not in everything
        assert canary.encode().hex() not in everything


async def whole_text(database: object, admin: Login) -> str:
    """Every row of every table, as text."""
    from yggdrasil.db.address import connect

    pool = getattr(database, "pool", None) or next(iter(database.pools.values()))  # type: ignore[attr-defined]
    connection = await connect(pool.address, admin)
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname IN ('tenant', 'identity', 'platform', 'jobs', 'vault')"
        )
        texts = []
        for table in tables:
            rows = await connection.fetch(f"SELECT t::text AS line FROM {table['name']} t")
            texts += [row["line"] for row in rows]
        return "\n".join(texts)
    finally:
        await connection.close()


async def test_a_failing_step_does_not_stop_the_sweep(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    await house.start(ASK, Device())
    house.clock.advance(house.users.settings.code_seconds)
    pending = house.mimir.pending

    async def away(*_: object) -> list[object]:
        raise RuntimeError("ask@example.org")

    house.mimir.pending = away  # type: ignore[assignment, method-assign]
    await house.users.sweep()
    house.mimir.pending = pending  # type: ignore[method-assign]
    async with house.vault.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM vault.flows") == 0
    shown = "".join(capsys.readouterr())
    assert "sweep_step_failed" in shown
    assert ASK not in shown


async def test_tokens_name_the_device_once_it_is_attached(house: House) -> None:
    device, internal = Device(), house.ids.uuid()
    tokens = await house.sign_in(ASK, device)
    scope = await house.users.authenticate(f"Bearer {tokens['access_token']}")
    assert scope.device_id is None
    await house.users.attach_device(scope, internal)
    fresh = await house.post("/users/refresh", device.refresh_body(tokens["refresh_token"], house.at))
    renewed = await house.users.authenticate(f"Bearer {fresh.json()['access_token']}")
    assert renewed.device_id == internal
    assert renewed.session_id == scope.session_id


async def test_a_stolen_session_is_audited_in_its_network(house: House) -> None:
    device = Device()
    tokens = await house.sign_in(ASK, device)
    for _ in range(2):
        answer = await house.post("/users/refresh", Device().refresh_body(tokens["refresh_token"], house.at))
        assert answer.status_code == 401
    async with house.database.transaction(System("test")) as tx:
        rows = await tx.fetch(
            "SELECT network_id::text, kind, actor_kind, subject_id::text, user_id::text"
            " FROM tenant.audit_events JOIN tenant.audit_pending USING (network_id, event_id)"
        )
    assert [tuple(row) for row in rows] == [
        (tokens["network_id"], "session.stolen", "system", tokens["session_id"], tokens["user_id"])
    ]
