"""The watch on a real server: content with it as it is, and alarmed by each planted leak."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid5

import pytest

from tests.sentinel.conftest import Watch
from yggdrasil.admin import store
from yggdrasil.bifrost.hub import Hub
from yggdrasil.devices.service import Devices
from yggdrasil.errors import Conflict, Forbidden, NotFound
from yggdrasil.kernel import SENTINEL_NETWORKS, Network, System
from yggdrasil.sentinel.sentinel import Sentinel
from yggdrasil.users.service import Users


async def exists_elsewhere(watch: Watch, device_id: str) -> bool:
    async with watch.services.databases.main.transaction(System("operators")) as tx:
        found = await tx.fetchval("SELECT count(*) FROM tenant.devices WHERE device_id = $1", device_id)
    return bool(found)


async def test_it_is_content_with_the_server_as_it_is(watch: Watch) -> None:
    assert watch.sentinel.health().status == "starting"
    await watch.once_more()
    health = watch.sentinel.health()
    assert (health.status, health.leaks, health.rounds) == ("ok", 0, 1)
    paths = {probe.path for probe in watch.sentinel._probes}
    assert {"/api/v1/devices/{device_id:str}", "/api/v1/keys/{key_id:uuid}", "connect"} <= paths
    # Each place with each kind of id from either side, and what is left of the job's last turn.
    each = health.places * 2 * 4
    assert each <= health.probes < each + 40
    await watch.once_more()
    health = watch.sentinel.health()
    assert health.rounds == 2
    assert 2 * each <= health.probes < 2 * each + 40


async def test_another_node_s_watch_is_not_disturbed(watch: Watch, services: Any) -> None:
    await watch.once_more()
    other = Sentinel(
        services.users, services.clock, services.ids, node_id=services.ids.uuid(), probes_per_minute=6_000
    )
    other.watch(watch.app)
    rounds = watch.sentinel.health().rounds
    while not (other.health().rounds and watch.sentinel.health().rounds > rounds):
        await asyncio.gather(other.run_once(), watch.sentinel.run_once())
    assert (other.health().status, watch.sentinel.health().status) == ("ok", "ok")


async def test_a_restart_leaves_nothing_of_the_boot_before(watch: Watch, services: Any) -> None:
    canary = watch.sentinel._canaries[0]
    for _ in range(2):
        await canary.settle_in()
    for path, name in (("/api/v1/devices", "device_id"), ("/api/v1/keys", "name")):
        assert len(await canary._own(path, name)) == 1


async def test_operators_count_their_customers_alone(watch: Watch, services: Any) -> None:
    await watch.once_more()
    async with services.databases.main.transaction(System("operators")) as tx:
        seen = await store.networks(tx, None, 1_000)
        counts = await store.counts(tx, services.clock.now())
    assert not {row["network_id"] for row in seen} & set(SENTINEL_NETWORKS)
    assert (counts["networks"], counts["accounts"], counts["devices"]) == (len(seen), 0, 0)


async def test_an_answer_with_a_foreign_row_is_found(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    true_get = Devices.get

    async def get(self: Devices, scope: Network, device_id: str) -> Any:
        for network_id in SENTINEL_NETWORKS:
            try:
                own = Network(network_id, scope.user_id, scope.role)
                return await true_get(self, own, device_id)
            except NotFound:
                continue
        raise NotFound

    monkeypatch.setattr(Devices, "get", get)
    await watch.once_more()
    leaks = watch.sentinel.health().last_leaks
    assert {(one.method, one.path, one.tried) for one in leaks} == {
        ("GET", "/api/v1/devices/{device_id:str}", "device")
    }
    assert watch.sentinel.health().status == "leaking"


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (Forbidden, "status 403 for a foreign id, 404 for an absent one"),
        (lambda: NotFound(NotFound().detail.swapcase()), "bodies differ"),
        (lambda: NotFound(retry_after_seconds=1), "headers differ: retry-after"),
    ],
)
async def test_an_error_that_tells_is_found(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, error: Any, what: str
) -> None:
    async def remove(self: Devices, scope: Network, device_id: str) -> None:
        if await exists_elsewhere(watch, device_id):
            raise error()
        raise NotFound

    await watch.settled()
    monkeypatch.setattr(Devices, "remove", remove)
    await watch.once_more()
    found = {(one.method, one.path, one.tried, one.what) for one in watch.sentinel.health().last_leaks}
    assert found == {("DELETE", "/api/v1/devices/{device_id:str}", "device", what)}


async def test_a_socket_that_tells_is_found(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    receive = Hub.receive
    await watch.settled()
    theirs = [canary.known for canary in watch.sentinel._canaries]

    def told(self: Hub, session: int, frame: str | bytes) -> None:
        if isinstance(frame, str) and '"connect"' in frame and any(k["device"] in frame for k in theirs):
            frame = frame.replace('"purpose"', '"not_a_purpose"')
        receive(self, session, frame)

    monkeypatch.setattr(Hub, "receive", told)
    await watch.once_more()
    assert {(one.method, one.path) for one in watch.sentinel.health().last_leaks} == {("SOCKET", "connect")}


async def test_a_foreign_delete_that_works_is_found_by_its_effect(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoke = Users.revoke_key

    async def revoke_any(self: Users, scope: Network, key_id: Any) -> None:
        for canary in watch.sentinel._canaries:
            if canary.known.get("key") == str(key_id) and canary.network_id != scope.network_id:
                owner = Network(
                    canary.network_id,
                    uuid5(canary.network_id, "canary"),
                    scope.role,
                    session_id=scope.session_id,
                )
                await revoke(self, owner, key_id)
                raise NotFound
        await revoke(self, scope, key_id)

    await watch.settled()
    monkeypatch.setattr(Users, "revoke_key", revoke_any)
    await watch.once_more()
    assert [one.what for one in watch.sentinel.health().last_leaks] == [
        "the other network's own things changed"
    ] * 2
    monkeypatch.undo()
    await watch.once_more()
    assert (watch.sentinel.health().status, watch.sentinel.health().leaks) == ("leaking", 2)


async def test_a_watch_that_cannot_see_is_not_content(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise Conflict("no")

    monkeypatch.setattr(Devices, "register", refuse)
    await watch.sentinel.run_once()
    health = watch.sentinel.health()
    assert (health.status, health.well, health.probes) == ("blind", False, 0)
    assert health.why_blind == "A canary was refused its own: POST answered 409"
    monkeypatch.undo()
    await watch.once_more()
    assert watch.sentinel.health().status == "ok"


def test_a_budget_of_nothing_is_off(services: Any) -> None:
    sentinel = Sentinel(
        services.users, services.clock, services.ids, node_id=services.ids.uuid(), probes_per_minute=0
    )
    assert sentinel.health().status == "off"
