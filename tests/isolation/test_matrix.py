"""The probe matrix, a slice of it: every route × every place for an id × every class, every method of every
path, and planted leaks that it must find. `python -m tests.isolation.matrix` draws the rest.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import SEED, make_directory
from tests.isolation import cells, forms, matrix
from tests.isolation.acts import ACTS, act
from tests.isolation.cells import Cell
from tests.isolation.engine import Engine
from tests.isolation.stand import NEVER_REMOVED, Stand, open_stand
from yggdrasil.bifrost.hub import Hub
from yggdrasil.db.bootstrap import MAIN_DATABASE
from yggdrasil.devices.model import DEVICE_ID_PATTERN
from yggdrasil.devices.service import Devices
from yggdrasil.errors import Conflict, Forbidden, NotFound
from yggdrasil.kernel import Network, System
from yggdrasil.users.service import Users

PROBES = 6_000
DEVICE = "/api/v1/devices/{device_id}"
KEY = "/api/v1/keys/{key_id}"


@pytest.fixture(scope="module")
async def stand() -> AsyncIterator[Stand]:
    place = make_directory()
    async with open_stand(place) as made:
        yield made
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
async def every(stand: Stand) -> list[Cell]:
    """The whole matrix."""
    return list(cells.cells(Engine(stand, random.Random(SEED)).has))


@pytest.fixture
async def engine(stand: Stand) -> AsyncIterator[Engine]:
    made = Engine(stand, random.Random(SEED))
    yield made
    await made.close()


async def found(engine: Engine, every: list[Cell], wanted: Callable[[Cell], bool]) -> list[str]:
    """What differs in the cells that are wanted."""
    chosen = [cell for cell in every if wanted(cell)]
    assert chosen
    result = matrix.Result()
    await matrix.run(engine, chosen, matrix.Coverage(set()), result)
    return [one.what for one in result.differences]


async def test_nothing_differs_and_nothing_changes(engine: Engine, every: list[Cell]) -> None:
    coverage, result = matrix.Coverage.of(every), matrix.Result()
    await matrix.run(engine, matrix.slice_of(every, PROBES, engine.draw), coverage, result)
    print(coverage.table())
    print(result.probes, dict(result.by_place), dict(sorted(engine.statuses.items())))
    assert result.differences == []
    assert result.probes >= PROBES
    assert coverage.slots == 1.0
    assert coverage.method_paths == 1.0


@pytest.mark.parametrize("name", ACTS)
async def test_what_b_does_with_an_id_of_a_goes_as_with_any_other(engine: Engine, name: str) -> None:
    assert await act(engine, name) == []


def test_there_is_an_id_of_each_kind_in_each_state(stand: Stand) -> None:
    """A kind that is new in `note_everything` is erased with its account, and removed here or never."""
    kinds = set(stand.ids["foreign"])
    assert set(stand.ids["erased"]) == kinds
    assert set(stand.ids["removed"]) | set(NEVER_REMOVED) == kinds
    probed = {name for place in cells.places() for name in place.ids} - {"number"}
    assert probed <= kinds


def test_each_form_is_another_and_keeps_shapes_alike() -> None:
    draw = random.Random(SEED)
    for value in ("6d1f0c0e-5a0b-4a5e-9a55-0f6b6a4d2c11", "network-a-device", "offer_" + "0f" * 16):
        twin = forms.twin(value, draw)
        assert twin != value
        assert len(twin) == len(value)
        written = {form: forms.in_path(form, value) for form in (*forms.TEXT_FORMS, *forms.PATH_FORMS)}
        if forms.UUID_TEXT.fullmatch(value):
            assert len({*written.values(), value}) == len(written) + 1
        for form, text in written.items():
            assert text.isascii(), form
            assert not set(text) & set(" \r\n"), form
    assert forms.TEXT_FORMS["no hyphens"](str(UUID(int=1))) == f"{1:032x}"


# ---- controls: each of these must be found -----------------------------------------------------------------


async def elsewhere(stand: Stand, device_id: str) -> UUID | None:
    """Whose device it is."""
    async with stand.services.databases.main.transaction(System("operators")) as tx:
        owner: UUID | None = await tx.fetchval(
            "SELECT network_id FROM tenant.devices WHERE device_id = $1", device_id
        )
    return owner


def is_path(cell: Cell, path: str, method: str) -> bool:
    return (cell.place.path, cell.place.where, cell.method, cell.by) == (path, "path", method, "token")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (lambda owner: NotFound(f"It belongs to {owner}"), "headers"),
        (lambda owner: NotFound(NotFound().detail.swapcase()), "body"),
        (lambda owner: Forbidden(), "status 403, 404"),
        (lambda owner: NotFound(retry_after_seconds=1), "headers"),
        (lambda owner: NotFound(NotFound().detail + " "), "headers"),
        (lambda owner: RuntimeError(), "status 500, 404"),
    ],
    ids=["quotes the owner", "another text", "another status", "another header", "another length", "a bug"],
)
async def test_an_error_that_tells_is_found(
    engine: Engine, every: list[Cell], monkeypatch: pytest.MonkeyPatch, error: Any, what: str
) -> None:
    async def remove(self: Devices, scope: Network, device_id: str) -> None:
        owner = await elsewhere(engine.stand, device_id) if DEVICE_ID_PATTERN.match(device_id) else None
        raise NotFound if owner is None else error(owner)

    monkeypatch.setattr(Devices, "remove", remove)
    told = await found(
        engine, every, lambda cell: is_path(cell, DEVICE, "DELETE") and cell.name == "device_id"
    )
    assert told
    assert [one for one in told if not one.startswith(what)] == []


async def test_an_answer_that_names_a_thing_of_a_is_found(
    engine: Engine, every: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where both answers are the same."""
    name = engine.stand.ids["foreign"]["network"]

    async def get(self: Devices, scope: Network, device_id: str) -> Any:
        raise NotFound(f"Not in {name}")

    monkeypatch.setattr(Devices, "get", get)
    assert set(await found(engine, every, lambda cell: is_path(cell, DEVICE, "GET"))) == {
        "the answer holds A's network"
    }


async def test_a_deleted_thing_that_is_remembered_is_found(
    engine: Engine, every: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def revoke(self: Users, scope: Network, key_id: UUID) -> None:
        row = await engine.stand.rows.databases[MAIN_DATABASE].fetchrow(
            "SELECT revoked_at FROM tenant.api_keys WHERE key_id = $1", key_id
        )
        raise Conflict("revoked before") if row is not None and row["revoked_at"] else NotFound

    monkeypatch.setattr(Users, "revoke_key", revoke)

    def wanted(cell: Cell) -> bool:
        return is_path(cell, KEY, "DELETE") and cell.name == "key" and cell.form == forms.PLAIN

    assert set(await found(engine, every, wanted)) == {"status 409, 404 for an id that never was"}


async def test_a_malformed_id_that_is_understood_is_found(
    engine: Engine, every: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(self: Devices, scope: Network, device_id: str) -> Any:
        if (
            DEVICE_ID_PATTERN.match(device_id)
            and device_id.isupper()
            and await elsewhere(engine.stand, device_id.lower()) is not None
        ):
            raise Forbidden
        raise NotFound

    monkeypatch.setattr(Devices, "get", get)
    told = await found(engine, every, lambda cell: is_path(cell, DEVICE, "GET") and cell.name == "device_id")
    assert set(told) == {"status 403, 404 for an id that never was"}


async def test_a_write_to_the_victim_is_found(
    engine: Engine, every: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though every answer is as it should be."""
    database = engine.stand.rows.databases[MAIN_DATABASE]

    async def update(self: Devices, scope: Network, device_id: str, **changes: Any) -> Any:
        await database.execute("UPDATE tenant.devices SET name = 'stolen' WHERE device_id = $1", device_id)
        raise NotFound

    monkeypatch.setattr(Devices, "update", update)

    def wanted(cell: Cell) -> bool:
        return is_path(cell, DEVICE, "PUT") and (cell.name, cell.form) == ("device_id", forms.PLAIN)

    assert await found(engine, every, wanted) == ["A's rows of yggdrasil.tenant.devices changed"]


async def test_a_socket_that_tells_is_found(
    engine: Engine, every: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, theirs = Hub.receive, engine.stand.ids["foreign"]["device_id"]

    def told(self: Hub, session: int, frame: str | bytes) -> None:
        if isinstance(frame, str) and '"connect"' in frame and theirs in frame:
            frame = frame.replace('"purpose"', '"not_a_purpose"')
        receive(self, session, frame)

    monkeypatch.setattr(Hub, "receive", told)

    def wanted(cell: Cell) -> bool:
        return cell.method == "connect" and (cell.state, cell.form) == ("foreign", forms.PLAIN)

    (what,) = await found(engine, every, wanted)
    assert what.startswith("frames")


async def test_no_table_of_the_victim_is_forgotten(stand: Stand) -> None:
    """In each table that holds rows of A one is taken away, and missed."""
    rows, missed = stand.rows, []
    before = await rows.taken()
    for name, table in await rows.tables():
        if not before[f"{name}.{table}"][0]:
            continue
        transaction = rows.databases[name].transaction()
        await transaction.start()
        try:
            await rows.databases[name].execute("SET LOCAL session_replication_role = replica")
            await rows.databases[name].execute(
                f"DELETE FROM {table} WHERE ctid = (SELECT ctid FROM {table} t"
                " WHERE to_jsonb(t)::text ~ $1 AND NOT to_jsonb(t)::text ~ $2 LIMIT 1)",
                *rows._patterns(),
            )
            if await rows.of(name, table) != before[f"{name}.{table}"]:
                missed.append(table)
        finally:
            await transaction.rollback()
    assert missed == [key.partition(".")[2] for key, (count, _) in before.items() if count]
    assert {
        "tenant.devices",
        "tenant.entries",
        "identity.sessions",
        "platform.attempts",
        "vault.fields",
    } <= set(missed)


def test_what_is_not_probed_is_not_covered(engine: Engine, every: list[Cell]) -> None:
    coverage = matrix.Coverage.of(every)
    for cell in matrix.slice_of(every, 0, engine.draw):
        if cell.place.path != KEY:
            coverage.add(cell)
    assert 0.9 < coverage.slots < 1
    assert {key[1] for key in coverage.due - coverage.done} == {KEY}
