"""What a seller sets and reads over REST."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.marketplace.test_rest import ROOT, bearer
from tests.marketplace.test_work import provider_of
from tests.marketplace.world import MODEL, World

NIGHTS = {"days": ["fri", "sat"], "from": "22:00", "to": "06:00"}


async def test_hours_capacity_and_quality_are_set_and_shown(world: World, http: httpx.AsyncClient) -> None:
    device = await world.device(await world.person(), "pc")
    me = bearer(world, device.scope)
    terms = {"model": MODEL, "price_cents": 3, "capacity_jobs": 1, "output_tokens_max": 512}
    asked = {
        "device_id": "pc",
        "models": [terms],
        "audience": "own",
        "capacity_jobs": 4,
        "hours": [NIGHTS],
        "zone": "Europe/Berlin",
    }
    made = await http.post(f"{ROOT}/providers/register", json=asked, headers=me)
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["hours"], shown["zone"], shown["capacity_jobs"]) == ([NIGHTS], "Europe/Berlin", 4)
    assert (shown["offers"][0]["capacity_jobs"], shown["offers"][0]["output_tokens_max"]) == (1, 512)
    path = f"{ROOT}/providers/{shown['provider_id']}"
    changed = await http.put(path, json={"status": "draining", "hours": []}, headers=me)
    assert (changed.json()["status"], changed.json()["hours"]) == ("draining", [])
    assert changed.json()["zone"] == "Europe/Berlin"
    assert (await http.get(path, headers=me)).json() == changed.json()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"zone": "Nowhere/Else"}, "zone"),
        ({"hours": [NIGHTS | {"to": "22:00"}]}, "to"),
        ({"hours": [NIGHTS | {"from": "8 pm"}]}, "from"),
        ({"hours": [NIGHTS] * 33}, "hours"),
        ({"status": "gone"}, "status"),
        ({"models": [{"model": MODEL, "capacity_jobs": 0}]}, "capacity_jobs"),
    ],
)
async def test_bad_settings_name_the_field_and_change_nothing(
    world: World, http: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    seller = await world.seller("pc")
    me = bearer(world, seller.scope)
    path = f"{ROOT}/providers/{await provider_of(world, seller)}"
    before = (await http.get(path, headers=me)).json()
    refused = await http.put(path, json=change, headers=me)
    assert refused.status_code == 400
    assert field in refused.text
    assert (await http.get(path, headers=me)).json() == before


async def test_work_is_read_by_its_own_network_alone(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller("pc")
    path = f"{ROOT}/providers/{await provider_of(world, seller)}/work"
    mine = await http.get(path, headers=bearer(world, seller.scope))
    assert mine.status_code == 200
    assert mine.json()["now"] == {f"chat/{MODEL}": "serving"}
    stranger = bearer(world, await world.person())
    assert (await http.get(path, headers=stranger)).status_code == 404
    for hours in (0, 169):
        refused = await http.get(path, params={"hours": hours}, headers=bearer(world, seller.scope))
        assert refused.status_code == 400


async def test_it_is_shown_which_devices_are_shared_and_with_whom(
    world: World, http: httpx.AsyncClient
) -> None:
    person = await world.person()
    pc, _laptop = await world.device(person, "pc"), await world.device(person, "laptop")
    view = await world.register(pc, audience="network", jobs=3)
    await world.device(await world.person(person), "of-a-mate")
    me = bearer(world, person)
    seen, cursor = [], ""
    for _ in range(2):
        query = {"limit": 1, "cursor": cursor} if cursor else {"limit": 1}
        page = (await http.get(f"{ROOT}/sharing", params=query, headers=me)).json()
        seen += page["items"]
        cursor = page["next"]
    assert cursor is None
    assert [(one["device_id"], one["audience"], one["capacity_jobs"]) for one in seen] == [
        ("laptop", "nobody", None),
        ("pc", "network", 3),
    ]
    assert seen[1]["provider_id"] == str(view.provider_id)
