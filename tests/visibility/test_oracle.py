"""For every viewer and every object: the list says visible if and only if a real request shows it."""

from __future__ import annotations

from typing import Any

from tests.visibility.conftest import House, Things
from yggdrasil.kernel import Network, Role

KINDS = ("devices", "providers", "offers", "hand_overs", "openings", "api_keys", "requests", "audit")


async def shown(house: House, viewer: Network, things: Things) -> dict[str, bool]:
    """What the viewer's own requests show of these things: by every route that could."""

    async def ids(path: str, name: str, **query: Any) -> set[str]:
        answer = await house.get(viewer, path, limit=100, **query)
        return {str(one[name]) for one in answer.json().get("items", [])}

    async def there(path: str) -> bool:
        return (await house.get(viewer, path)).status_code == 200

    name = things.device.name
    return {
        "devices": await there(f"/devices/{name}")
        or name in await ids("/devices", "device_id", owner="network"),
        "providers": await there(f"/marketplace/providers/{things.provider}"),
        "offers": f"model-{things.scope.role.value}" in await ids("/marketplace/providers", "model"),
        "hand_overs": str(things.hand_over) in await ids("/users/me/hand-overs", "hand_over_id"),
        "openings": str(things.opening) in await ids("/users/me/openings", "opening_id"),
        "api_keys": str(things.key) in await ids("/keys", "key_id"),
        "requests": await there(f"/marketplace/transactions/{things.request}"),
        "audit": bool(await ids("/audit", "event_id")),
    }


def said(report: dict[str, Any], things: Things) -> dict[str, list[str]]:
    """The roles that the list names for each of these things."""

    def roles(kind: str, name: str, value: str) -> list[str]:
        (found,) = [one for one in report[kind] if one[name] == value]
        names: list[str] = found["seen_by"]
        return names

    return {
        "devices": roles("devices", "device_id", things.device.name),
        "providers": roles("providers", "provider_id", str(things.provider)),
        "offers": roles("offers", "model", f"model-{things.scope.role.value}"),
        "hand_overs": roles("hand_overs", "hand_over_id", str(things.hand_over)),
        "openings": roles("openings", "opening_id", str(things.opening)),
        "api_keys": roles("api_keys", "key_id", str(things.key)),
        "requests": report["requests_seen_by"],
        "audit": report["audit_seen_by"],
    }


async def test_the_list_says_what_requests_show(house: House) -> None:
    pairs, seen_pairs = 0, 0
    for things in house.of.values():
        report = await house.visibility(things.scope)
        listed = said(report, things)
        manages = things.scope.role in (Role.OWNER, Role.ADMIN)
        viewers = await house.viewers(things.scope) if manages else {}
        assert set(listed) == set(KINDS)
        for other in house.of.values():
            if other is things:
                continue
            viewer = other.scope
            real = await shown(house, viewer, things)
            for kind in KINDS:
                claimed = viewer.role.value in listed[kind]
                assert claimed == real[kind], (things.scope.role, viewer.role, kind)
                member = viewers.get(str(viewer.user_id))
                if manages and kind not in ("requests", "audit"):
                    assert (member is not None and member["sees"][kind] > 0) == real[kind]
                pairs, seen_pairs = pairs + 1, seen_pairs + real[kind]
            if manages and any(real.values()):
                assert viewers[str(viewer.user_id)]["role"] == viewer.role.value
        if not manages:
            refused = await house.get(things.scope, "/users/me/visibility/members")
            assert refused.status_code == 403
        assert str(things.scope.user_id) not in viewers
        assert str(house.stranger.user_id) not in viewers
        # The control: one's own requests show all of it, but for what is the network's.
        own = await shown(house, things.scope, things)
        role_may_not = {"audit", "providers"} if things.scope.role is Role.GUEST else {"audit"}
        assert all(found for kind, found in own.items() if kind not in role_may_not)
    assert pairs == 4 * 3 * len(KINDS)
    assert 0 < seen_pairs < pairs


async def test_a_stranger_is_shown_what_the_list_calls_market_and_nothing_else(house: House) -> None:
    for things in house.of.values():
        real = await shown(house, house.stranger, things)
        offer = (await house.visibility(things.scope))["offers"][0]
        assert real.pop("offers") == (offer["market"] is not None)
        assert not any(real.values()), things.scope.role
        if offer["market"] is None:
            continue
        answer = await house.get(house.stranger, "/marketplace/providers")
        (there,) = [one for one in answer.json()["items"] if one["model"] == offer["model"]]
        assert there.pop("offer") != offer["offer"]  # a name of its own
        market = dict(offer["market"])
        assert {name: market.get(name, there[name]) for name in there} == there
        assert {name for name in market if name not in there} <= {"supported_parameters"}
    markets = [(await house.visibility(one.scope))["offers"][0]["market"] for one in house.of.values()]
    assert [market is not None for market in markets] == [True, False, False, False]


async def test_nobody_reads_anothers_list(house: House) -> None:
    """Each sees its own things in it, and no id of another member but as a viewer."""
    for role, things in house.of.items():
        text = str(await house.visibility(things.scope))
        for other_role, other in house.of.items():
            if other_role is role:
                continue
            for thing in (other.provider, other.hand_over, other.away, other.key, other.device.name):
                assert str(thing) not in text, (role, other_role)
    stranger = await house.visibility(house.stranger)
    assert [stranger[kind] for kind in ("devices", "providers", "offers", "hand_overs", "api_keys")] == [
        []
    ] * 5
    assert await house.viewers(house.stranger) == {}
    assert str(house.of[Role.OWNER].scope.network_id) not in str(stranger)


async def test_it_pages_over_the_viewers(house: House) -> None:
    mine = house.of[Role.OWNER].scope
    all_at_once = list(await house.viewers(mine))
    one_by_one: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await house.get(mine, "/users/me/visibility/members", limit=1, **cursor)).json()
        one_by_one += [one["user_id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert one_by_one == all_at_once
    assert len(one_by_one) == 3
    for bad in ("x", "WyJ4Il0"):
        answer = await house.get(mine, "/users/me/visibility/members", cursor=bad)
        assert (answer.status_code, answer.json()["field"]) == (400, "cursor")
