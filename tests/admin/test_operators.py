"""Operators: counts by default, rows for a reason, and for everybody else there is nothing there."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from tests.admin.conftest import House
from tests.marketplace.world import World, chat, good
from yggdrasil.admin import store
from yggdrasil.admin.credential import Credential, parse
from yggdrasil.admin.operators import MAKING_JOB
from yggdrasil.kernel import Identity, Market, Settle, System

ROUTES = [
    ("GET", "overview"),
    ("GET", "networks"),
    ("GET", "providers"),
    ("GET", "holds"),
    ("GET", "audit"),
    ("POST", f"networks/{uuid4()}/open"),
    ("POST", f"requests/{uuid4()}/open"),
]
UNEQUAL = {"date", "x-request-id"}


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[path.split("/")[0] for _, path in ROUTES])
async def test_to_others_it_is_an_unknown_path_whatever_they_send(
    house: House, method: str, path: str
) -> None:
    real = await house.operator()
    ended = await house.operator("gone")
    async with house.world.database.transaction(System(MAKING_JOB)) as tx:
        assert await store.revoke_operator(tx, ended.operator_id, house.world.clock.now())
        assert not await store.revoke_operator(tx, ended.operator_id, house.world.clock.now())
    strangers = [
        None,
        await house.world.person(),
        "ygg_nothing",
        Credential(real.operator_id, bytes(32)),
        Credential(house.world.ids.uuid(), real.secret),
        ended,
    ]
    for who in strangers:
        for verb in ("GET", "POST", "DELETE", "OPTIONS"):
            for tail, options in (
                ("", {}),
                ("?limit=0", {}),
                ("/", {}),
                ("", {"json": {"reason": "curious"}}),
                ("", {"content": b"{"}),
            ):
                there = await house.ask(who, verb, f"/api/v1/admin/{path}{tail}", **options)
                never = await house.ask(who, verb, f"/api/v1/nothing/{path}{tail}", **options)
                assert there.status_code == never.status_code == 404
                assert there.content == never.content
                seen = [
                    sorted((name, text) for name, text in answer.headers.items() if name not in UNEQUAL)
                    for answer in (there, never)
                ]
                assert seen[0] == seen[1]
    allowed = await house.ask(real, method, f"/api/v1/admin/{path}", json={"reason": "a test"})
    # The control: the same path is known to an operator.
    assert allowed.status_code == (200 if method == "GET" else 404)
    assert (await house.ask(real, "DELETE", f"/api/v1/admin/{path}")).status_code == 405


async def test_an_operators_credential_is_no_users(house: House) -> None:
    operator = await house.operator()
    assert (await house.ask(operator, "GET", "/api/v1/users/me/openings")).status_code == 401
    assert parse(operator.text()) == operator
    for text in (operator.text()[:-1], operator.text() + "A", "ygo_" + "ü" * 64, "ygg" + operator.text()[3:]):
        assert parse(text) is None


async def test_the_overview_counts_and_audits(house: House) -> None:
    operator = await house.operator()
    await house.world.seller(behaviour=good)
    buyer = await house.world.buyer()
    await (await house.world.market.run(buyer, chat())).outcome()
    seen = (await house.ask(operator, "GET", "/api/v1/admin/overview")).json()
    # Two networks, and the platform's.
    assert (seen["counts"]["networks"], seen["counts"]["providers"]) == (3, 1)
    assert (seen["counts"]["attempts_open"], seen["counts"]["nodes_live"]) == (0, 1)
    assert seen["node"] == {"sockets": 1, "requests_running": 0}
    ledger = seen["ledger"]
    assert ledger["sound"] is True
    assert ledger["cost_microcents"] == ledger["fee_microcents"] + ledger["earnings_microcents"] > 0
    for name in (str(buyer.network_id), str(buyer.user_id)):
        assert name not in str(seen)


async def test_who_looked_is_in_the_audit(house: House) -> None:
    ada, bob = await house.operator("ada"), await house.operator("bob")
    for operator, path in ((ada, "networks"), (bob, "overview"), (bob, "holds")):
        assert (await house.ask(operator, "GET", f"/api/v1/admin/{path}")).status_code == 200
        house.world.clock.advance(1)
    seen = (await house.ask(ada, "GET", "/api/v1/admin/audit?limit=100")).json()["items"]
    assert [one["detail"] for one in seen if one["scope"] == "look"] == [
        f"operator {ada.operator_id} looked at the audit",
        f"operator {bob.operator_id} looked at open holds",
        f"operator {bob.operator_id} looked at the overview",
        f"operator {ada.operator_id} looked at networks",
    ]


async def test_lists_come_in_pages_and_show_all_networks(house: House) -> None:
    operator = await house.operator()
    people = [await house.world.person() for _ in range(5)]
    seen: list[str] = []
    path = "/api/v1/admin/networks?limit=2"
    for _ in range(3):
        page = (await house.ask(operator, "GET", path)).json()
        seen += [item["network_id"] for item in page["items"]]
        path = f"/api/v1/admin/networks?limit=2&cursor={page['next']}"
    assert page["next"] is None
    assert len(seen) == len(set(seen)) == 6
    assert {str(person.network_id) for person in people} < set(seen)
    for bad in ("limit=0", "limit=101", "cursor=x"):
        assert (await house.ask(operator, "GET", f"/api/v1/admin/holds?{bad}")).status_code == 400


async def test_holds_and_providers_by_opaque_id_without_what_is_the_tenants(house: House) -> None:
    operator = await house.operator()
    sellers = [await house.world.seller(f"pc-{number}") for number in range(2)]
    buyers = [await house.world.buyer() for _ in range(2)]
    for buyer in buyers:
        async with house.world.database.transaction(Settle((buyer.network_id,))) as tx:
            await house.world.payments.hold(
                tx,
                network_id=buyer.network_id,
                hold_id=house.world.ids.uuid(),
                transaction_id=house.world.ids.uuid(),
                amount_microcents=7_654_321,
                deadline_at=house.world.clock.now(),
            )
    holds = (await house.ask(operator, "GET", "/api/v1/admin/holds")).json()["items"]
    assert {one["network_id"] for one in holds} == {str(buyer.network_id) for buyer in buyers}
    assert "7654321" not in str(holds)
    shown = (await house.ask(operator, "GET", "/api/v1/admin/providers")).json()["items"]
    assert {one["network_id"] for one in shown} == {str(one.scope.network_id) for one in sellers}
    assert [one["offers"] for one in shown] == [1, 1]
    assert not any("price" in name or "device" in name for one in shown for name in one)


async def test_opening_a_network_needs_a_reason_and_is_seen_by_it_and_in_the_audit(house: House) -> None:
    operator = await house.operator()
    owner = await house.world.buyer(100)
    mate = await house.world.person(owner)
    path = f"/api/v1/admin/networks/{owner.network_id}/open"
    for body in ({}, {"reason": ""}, {"reason": "ab"}, {"reason": "x" * 301}):
        assert (await house.ask(operator, "POST", path, json=body)).status_code == 400
    assert (await house.ask(owner, "GET", "/api/v1/users/me/openings")).json()["items"] == []
    opened = (await house.ask(operator, "POST", path, json={"reason": "the wallet does not add up"})).json()
    assert {one["user_id"] for one in opened["members"]} == {str(owner.user_id), str(mate.user_id)}
    assert opened["balances"][0]["posted_microcents"] == 100_000_000
    seen = (await house.ask(owner, "GET", "/api/v1/users/me/openings")).json()["items"]
    assert [one["opening_id"] for one in seen] == [opened["opening_id"]]
    assert seen[0]["operator_id"] == str(operator.operator_id)
    assert seen[0]["reason"] == "the wallet does not add up"
    # The whole network was opened: that is its owner's to know.
    assert (await house.ask(mate, "GET", "/api/v1/users/me/openings")).json()["items"] == []
    audit = (await house.ask(operator, "GET", "/api/v1/admin/audit?limit=100")).json()["items"]
    details = [one["detail"] for one in audit if one["scope"] == "opening"]
    assert len(details) == 1
    assert "the wallet does not add up" in details[0]
    assert str(operator.operator_id) in details[0]


async def test_opening_a_request_answers_its_trace(house: House) -> None:
    operator = await house.operator()
    await house.world.seller(behaviour=good)
    buyer = await house.world.buyer()
    run = await house.world.market.run(buyer, chat())
    await run.outcome()
    path = f"/api/v1/admin/requests/{run.transaction_id}/open"
    opened = (await house.ask(operator, "POST", path, json={"reason": "a complaint"})).json()
    assert opened["request_id"] == str(run.transaction_id)
    assert [one["state"] for one in opened["attempts"]] == ["completed"]
    seen = (await house.ask(buyer, "GET", "/api/v1/users/me/openings")).json()["items"]
    assert [one["operator_id"] for one in seen] == [str(operator.operator_id)]


async def test_a_tenants_list_comes_in_pages(house: House) -> None:
    operator = await house.operator()
    owner = await house.world.person()
    for number in range(5):
        house.world.clock.advance(1)
        await house.ask(
            operator,
            "POST",
            f"/api/v1/admin/networks/{owner.network_id}/open",
            json={"reason": f"reason {number}"},
        )
    seen: list[str] = []
    path = "/api/v1/users/me/openings?limit=2"
    for _ in range(3):
        page = (await house.ask(owner, "GET", path)).json()
        seen += [one["reason"] for one in page["items"]]
        path = f"/api/v1/users/me/openings?limit=2&cursor={page['next']}"
    assert seen == [f"reason {number}" for number in reversed(range(5))]
    assert page["next"] is None


async def test_openings_are_written_by_the_jobs_that_open_and_changed_by_nobody(world: World) -> None:
    ours = await world.person()
    insert = (
        "INSERT INTO tenant.openings (network_id, opening_id, subject, subject_id, reason, at)"
        " VALUES ($1, $2, 'network', $1, 'a test', $3)"
    )
    for scope in (System("another-job"), ours, Settle((ours.network_id,)), Market(), Identity()):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with world.database.transaction(scope) as tx:
                await tx.execute(insert, ours.network_id, world.ids.uuid(), world.clock.now())
    async with world.database.transaction(System("operator")) as tx:
        await tx.execute(insert, ours.network_id, world.ids.uuid(), world.clock.now())
    for sql in ("DELETE FROM tenant.openings", "UPDATE tenant.openings SET reason = 'none'"):
        for scope in (System("operator"), ours):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with world.database.transaction(scope) as tx:
                    await tx.execute(sql)


async def test_only_one_job_makes_operators(world: World) -> None:
    for scope in (System("operator"), await world.person(), Identity()):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with world.database.transaction(scope) as tx:
                await store.insert_operator(tx, world.ids.uuid(), "eve", bytes(32), world.clock.now())
