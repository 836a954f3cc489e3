"""What operators are answered at `/health/isolation` when there is a leak, and when the watch is off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.sentinel.conftest import PROBES_PER_MINUTE, Watch
from tests.sentinel.test_sentinel import exists_elsewhere
from yggdrasil.admin import store
from yggdrasil.admin.credential import SECRET_BYTES, Credential
from yggdrasil.admin.operators import MAKING_JOB
from yggdrasil.app import create_app
from yggdrasil.devices.service import Devices
from yggdrasil.errors import Forbidden, NotFound
from yggdrasil.kernel import Network, System
from yggdrasil.observe import REGISTRY
from yggdrasil.sentinel.asking import Answer, ask
from yggdrasil.sentinel.sentinel import Sentinel
from yggdrasil.services import Services

HEALTH = "/health/isolation"


def watched(services: Services, probes_per_minute: int) -> Watch:
    """A watch whose state the application itself answers with."""
    sentinel = Sentinel(
        services.users,
        services.clock,
        services.ids,
        node_id=services.ids.uuid(),
        probes_per_minute=probes_per_minute,
    )
    app = create_app(replace(services, sentinel=sentinel))
    sentinel.watch(app)
    return Watch(services, app, sentinel)


@pytest.fixture
async def operator(services: Services) -> str:
    """The text of an operator's credential."""
    made = Credential(services.ids.uuid(), services.ids.secret(SECRET_BYTES))
    async with services.databases.main.transaction(System(MAKING_JOB)) as tx:
        await store.insert_operator(tx, made.operator_id, "watcher", made.digest(), services.clock.now())
    return made.text()


def leaks_counted() -> float:
    found = REGISTRY.get_sample_value("yggdrasil_isolation_leaks_total")
    assert found is not None
    return found


async def test_a_leak_turns_it_red(
    services: Services, operator: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = watched(services, PROBES_PER_MINUTE)

    async def health() -> Answer:
        return await ask(watch.app, "GET", HEALTH, operator)

    await watch.once_more()
    calm = await health()
    assert (calm.status, calm.json()["status"], calm.json()["last_leaks"]) == (200, "ok", [])

    async def remove(self: Devices, scope: Network, device_id: str) -> Any:
        raise Forbidden if await exists_elsewhere(watch, device_id) else NotFound

    before = leaks_counted()
    monkeypatch.setattr(Devices, "remove", remove)
    await watch.once_more()
    red = await health()
    assert (red.status, red.json()["status"]) == (503, "leaking")
    assert red.json()["leaks"] == leaks_counted() - before > 0
    (told,) = {(one["method"], one["path"], one["what"]) for one in red.json()["last_leaks"]}
    assert told == (
        "DELETE",
        "/api/v1/devices/{device_id:str}",
        "status 403 for a foreign id, 404 for an absent one",
    )
    assert "isolation_leak" in capsys.readouterr().out

    # It stays red when the leak is gone, and nobody but operators sees that there is anything.
    monkeypatch.undo()
    await watch.once_more()
    assert (await health()).status == 503
    token = await watch.sentinel._canaries[0].token()
    seen, absent = [await ask(watch.app, "GET", path, token) for path in (HEALTH, "/health/nothing")]
    assert seen == absent
    assert seen.status == 404


async def test_without_a_budget_it_is_off(services: Services, operator: str) -> None:
    watch = watched(services, 0)
    for _ in range(3):
        await watch.sentinel.run_once()
    answer = await ask(watch.app, "GET", HEALTH, operator)
    assert answer.status == 200
    told = answer.json()
    assert (told["status"], told["probes"], told["last_probe_at"]) == ("off", 0, None)
    assert watch.sentinel._settled is False
