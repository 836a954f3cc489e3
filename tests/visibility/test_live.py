"""Every permission that changes changes the list at once: nothing of it is stored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import as_superuser
from tests.visibility.conftest import House
from yggdrasil.db.address import Login
from yggdrasil.kernel import Network, Role

ALL = [role.value for role in Role]


async def offer_of(house: House, who: Network) -> dict[str, Any]:
    (found,) = (await house.visibility(who))["offers"]
    return dict(found)


async def test_an_audience(house: House) -> None:
    mine = house.of[Role.MEMBER]
    seen = []
    for audience in ("own", "network", "market"):
        await house.world.market.update_provider(
            mine.scope,
            str(mine.provider),
            audience=audience,  # type: ignore[arg-type]
            status=None,
            capacity_jobs=None,
            terms=None,
        )
        offer = await offer_of(house, mine.scope)
        seen.append((offer["seen_by"], offer["market"] is not None))
    assert seen == [([], False), (ALL, False), (ALL, True)]


async def test_what_could_not_serve_is_not_on_the_market(house: House) -> None:
    mine = house.of[Role.OWNER]
    assert (await offer_of(house, mine.scope))["market"]["online"] is True
    await house.world.market.update_provider(
        mine.scope, str(mine.provider), audience=None, status="paused", capacity_jobs=None, terms=None
    )
    assert (await offer_of(house, mine.scope))["market"] is None
    await house.world.market.update_provider(
        mine.scope, str(mine.provider), audience=None, status="active", capacity_jobs=None, terms=None
    )
    assert (await offer_of(house, mine.scope))["market"] is not None
    house.world.hub.revoke(network_id=mine.scope.network_id, device=mine.device.device)
    report = await house.visibility(mine.scope)
    assert report["offers"][0]["market"] is None
    assert report["devices"][0]["online"] is False


async def test_a_device_that_is_removed(house: House) -> None:
    mine = house.of[Role.ADMIN]
    await house.world.devices.remove(mine.scope, mine.device.name)
    report = await house.visibility(mine.scope)
    assert (report["devices"], report["providers"], report["offers"]) == ([], [], [])
    viewers = await house.viewers(mine.scope)
    assert {one["role"] for one in viewers.values()} == {"owner"}  # the hand-over and the opening
    assert all(one["sees"]["devices"] == 0 for one in viewers.values())


@pytest.mark.parametrize("after", ["member", "guest"])
async def test_a_role(house: House, admin: Login, after: str) -> None:
    mine, other = house.of[Role.OWNER].scope, house.of[Role.ADMIN].scope
    assert (await house.viewers(mine))[str(other.user_id)]["sees"]["hand_overs"] == 1
    await as_superuser(
        house.world.database,
        admin,
        f"UPDATE identity.memberships SET role = '{after}' WHERE user_id = '{other.user_id}'",
    )
    now = (await house.viewers(mine)).get(str(other.user_id))
    assert now is not None
    assert (now["role"], now["sees"]["hand_overs"], now["sees"]["openings"]) == (after, 0, 0)


async def test_a_membership_that_ends(house: House, admin: Login) -> None:
    mine, other = house.of[Role.OWNER].scope, house.of[Role.ADMIN].scope
    await as_superuser(
        house.world.database, admin, f"DELETE FROM identity.memberships WHERE user_id = '{other.user_id}'"
    )
    assert str(other.user_id) not in await house.viewers(mine)


async def test_a_hand_over_and_a_key_that_end(house: House) -> None:
    mine = house.of[Role.MEMBER]
    before = await house.visibility(mine.scope)
    assert [one["hand_over_id"] for one in before["hand_overs"]] == [str(mine.hand_over)]
    assert before["hand_overs"][0]["seen_by"] == ["owner", "admin"]
    assert [one["session_id"] for one in before["sessions"]] == [str(mine.away)]
    await house.users._sessions.end(mine.scope.user_id, mine.away, "logout")
    await house.users._keyring.revoke(mine.scope, mine.key)
    after = await house.visibility(mine.scope)
    assert (after["hand_overs"], after["sessions"], after["api_keys"]) == ([], [], [])


async def test_a_policy(house: House, admin: Login) -> None:
    """Not the code knows the rule: a policy of the database that changes is in the list at once."""
    mine = house.of[Role.MEMBER].scope
    network = "network_id = (SELECT platform.current_network())"
    for rule, roles in (
        ("(SELECT platform.current_role_name()) = 'owner'", ["owner"]),
        ("user_id = (SELECT platform.current_user_id())", []),
        ("true", ALL),
    ):
        own = "user_id = (SELECT platform.current_user_id())"
        await as_superuser(
            house.world.database,
            admin,
            f"ALTER POLICY devices_network_select ON tenant.devices USING ({network} AND ({rule} OR {own}))",
        )
        (device,) = (await house.visibility(mine))["devices"]
        assert device["seen_by"] == roles
