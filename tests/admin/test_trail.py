"""A network's own audit over REST: who may read it, and that nobody reads another's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.admin.conftest import House
from tests.support import make_network
from yggdrasil.audit.chain import Signing
from yggdrasil.audit.chainer import Chainer
from yggdrasil.kernel import PLATFORM_NETWORK, Role
from yggdrasil.keys import Keys

PATHS = ("/api/v1/audit", "/api/v1/audit/head")


async def test_owners_and_admins_read_their_own_and_nobody_else(house: House, keys: Keys) -> None:
    world = house.world
    operator = await house.operator()
    owner = await world.person()
    other = await make_network(world.database, world.ids, world.clock)
    path = f"/api/v1/admin/networks/{owner.network_id}/open"
    for number in range(3):
        world.clock.advance(1)
        await house.ask(operator, "POST", path, json={"reason": f"reason {number}"})
    await Chainer(world.database, world.clock, world.ids, Signing(keys.audit_signing)).drain()
    admin, member, guest = [
        await make_network(world.database, world.ids, world.clock, role=role, home=owner.network_id)
        for role in (Role.ADMIN, Role.MEMBER, Role.GUEST)
    ]
    for who in (owner, admin):
        rows = (await house.ask(who, "GET", f"{PATHS[0]}?kind=opening.network")).json()["items"]
        assert [row["detail"] for row in rows] == [f'{{"reason":"reason {n}"}}' for n in (2, 1, 0)]
        head = (await house.ask(who, "GET", PATHS[1])).json()
        assert head["head"]["number"] == rows[0]["number"]
        assert head["network_id"] == str(owner.network_id)
    for who in (member, guest):
        for url in PATHS:
            answer = await house.ask(who, "GET", url)
            assert answer.status_code == 403
            assert "needs the role admin" in answer.json()["detail"]
    # A network that has no row yet, and one that would be the platform's: each sees its own and nothing else.
    assert (await house.ask(other, "GET", PATHS[0])).json() == {"items": [], "next": None}
    assert (await house.ask(other, "GET", PATHS[1])).json()["head"] is None
    for url in PATHS:
        assert (await house.ask(None, "GET", url)).status_code == 401
    # Operators see all three in the platform's chain, with the network's id.
    async with world.database.transaction(replace(owner, network_id=PLATFORM_NETWORK)) as tx:
        rows = await tx.fetch("SELECT detail FROM tenant.audit_events WHERE kind = 'opening.network'")
    assert len(rows) == 3
    assert all(str(owner.network_id) in row["detail"] for row in rows)


@pytest.mark.parametrize("cursor", ["WyItMSJd", "WyIxZTMiXQ", "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OSJd", "nonsense"])
async def test_a_cursor_that_is_none_is_named(house: House, cursor: str) -> None:
    owner = await house.world.person()
    answer = await house.ask(owner, "GET", f"/api/v1/audit?cursor={cursor}")
    assert answer.status_code == 400
    assert answer.json()["field"] == "cursor"
