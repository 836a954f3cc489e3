"""Every REST route × every place an id fits: B asks with A's id and with one that never was; same bytes.

The routes come from the app itself. A route, path parameter or body field that is not in `probes.PROBES`
fails the build.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from litestar.routes import HTTPRoute

from tests.isolation.conftest import MODEL, Two
from tests.isolation.probes import PROBES, WORDS, Slot
from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.app import create_app
from yggdrasil.config import Settings
from yggdrasil.kernel import SystemClock, SystemIds
from yggdrasil.services import Services

REPEATS = 5
UNEQUAL_HEADERS = {"date", "x-request-id"}
ID_FIELDS = re.compile(r"(^|_)(id|ids|flow|device|network|provider|offer|order|only|ignore|key_id|cursor)$")


def random_uuid() -> str:
    return str(uuid4())


def random_device() -> str:
    return f"network-{uuid4().hex[0]}-{uuid4().hex[:6]}"


def random_offer() -> str:
    return f"offer_{uuid4().hex}"


FRESH: dict[str, Callable[[], str]] = {"device_id": random_device, "offer": random_offer}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    parameters: tuple[str, ...]
    fields: tuple[str, ...]


def routes() -> Iterator[Route]:
    """Every route of the app with the names of what it takes; the app is built without a database."""
    clock = SystemClock()
    nothing = SimpleNamespace(
        mailer=DevMailer(clock, development=True),
        ids=SystemIds(),
        users=None,
        devices=None,
        payments=None,
        marketplace=None,
        nornen=None,
        hub=None,
        operators=None,
        sentinel=None,
        quotas=None,
        clock=clock,
        visibility=None,
        readiness=None,
        settings=Settings(),
    )
    for route in create_app(cast(Services, nothing)).routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
            names = tuple(sorted(route.path_parameters))
            hints = handler.parsed_fn_signature.parameters
            fields = {name for name in hints if ID_FIELDS.search(name) and name not in names}
            if "data" in hints:
                fields |= set(id_fields(hints["data"].annotation))
            for method in handler.http_methods - {"OPTIONS", "HEAD"}:
                yield Route(str(method), path, names, tuple(sorted(fields)))


def id_fields(kind: Any) -> Iterator[str]:
    """Names of fields that can hold an id, in a body and what it holds."""
    for inner in typing.get_args(kind):
        yield from id_fields(inner)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for one in msgspec.structs.fields(kind):
            holds_uuid = UUID in (one.type, *typing.get_args(one.type))
            if holds_uuid or (ID_FIELDS.search(one.name) and not one.name.startswith("idempotency")):
                yield one.name
            yield from id_fields(one.type)


ROUTES = sorted(routes(), key=lambda route: (route.path, route.method))


def test_every_route_and_every_slot_is_probed() -> None:
    missing = []
    for route in ROUTES:
        probe = PROBES.get((route.method, route.path))
        if probe is None:
            missing.append(f"{route.method} {route.path}: not in PROBES")
            continue
        covered = {slot.place.split(".")[-1] for slot in probe.slots} | set(probe.fields)
        missing += [
            f"{route.method} {route.path}: {name} is not probed"
            for name in (*route.parameters, *route.fields)
            if name not in covered
        ]
    stale = set(PROBES) - {(route.method, route.path) for route in ROUTES}
    assert not missing, "\n".join(missing)
    assert not stale, f"no such route: {sorted(stale)}"


def shape(answer: httpx.Response, value: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """What B can tell: all but the date, the request id, and the id B sent itself."""
    headers = sorted((name, text) for name, text in answer.headers.items() if name not in UNEQUAL_HEADERS)
    return answer.status_code, headers, answer.content.replace(value.encode(), b"<id>")


async def ask(
    two: Two, route: tuple[str, str], slot: Slot, value: str
) -> tuple[int, list[tuple[str, str]], bytes]:
    method, path = route
    parameters = re.findall(r"\{(\w+)\}", path)
    url = path
    for name in parameters:
        url = url.replace(f"{{{name}}}", value if name == slot.place else random_uuid())
    body = slot.body(value) if slot.body is not None else None
    answer = await two.http_b.request(method, url, json=body)
    return shape(answer, value)


CASES = [
    (route, slot, name) for route, probe in PROBES.items() for slot in probe.slots for name in slot.names
]


@pytest.mark.parametrize(
    ("route", "slot", "name"), CASES, ids=[f"{r[0]}-{r[1]}-{s.place}-{n}" for r, s, n in CASES]
)
async def test_a_foreign_id_answers_as_one_that_never_was(
    two: Two, route: tuple[str, str], slot: Slot, name: str
) -> None:
    before = await two.view_of_a()
    fresh = FRESH.get(name, random_uuid)
    for _ in range(REPEATS):
        # The same length, or the answers would differ in what B itself sent.
        absent = fresh()
        foreign = two.known[name]
        there, not_there = await ask(two, route, slot, foreign), await ask(two, route, slot, absent)
        if len(absent) != len(foreign):
            there, not_there = without_length(there), without_length(not_there)
        assert there == not_there
        if route != ("POST", "/v1/chat/completions"):
            assert there[0] < 500 or b"no_provider" in there[2]
    assert await two.view_of_a() == before


def without_length(
    seen: tuple[int, list[tuple[str, str]], bytes],
) -> tuple[int, list[tuple[str, str]], bytes]:
    return seen[0], [pair for pair in seen[1] if pair[0] != "content-length"], seen[2]


async def test_the_control_a_own_ids_answer_otherwise(two: Two) -> None:
    """The probes can tell: with A's own token the same ids are found."""
    for path in (
        f"/api/v1/devices/{two.known['device_id']}",
        f"/api/v1/marketplace/transactions/{two.known['bought']}",
    ):
        mine, never = await two.http_a.get(path), await two.http_a.get(path[:-8] + "00000000")
        assert mine.status_code == httpx.codes.OK
        assert never.status_code == httpx.codes.NOT_FOUND


async def test_what_was_read_is_not_answered_to_others(two: Two) -> None:
    """A reads each of its things, twice; then B asks for them, and gets what is said of nothing at all."""
    paths = [
        f"/api/v1/devices/{two.known['device_id']}",
        f"/api/v1/marketplace/providers/{two.known['provider']}",
        f"/api/v1/marketplace/providers/{two.known['provider']}/work",
        f"/api/v1/marketplace/registrations/{two.known['registration']}",
        *(f"/api/v1/marketplace/transactions/{two.known[word]}" for word in WORDS),
        f"/api/v1/marketplace/requests/{two.known['bought']}",
        f"/api/v1/marketplace/requests/{two.known['bought']}/result",
    ]
    for path in paths:
        for _ in range(2):
            assert (await two.http_a.get(path)).status_code == httpx.codes.OK, path
        answer = await two.http_b.get(path)
        assert answer.status_code == httpx.codes.NOT_FOUND, path
        part = path.split("/")[5 if "/marketplace/" in path else 4]
        fresh = random_device() if part == two.known["device_id"] else random_uuid()
        assert shape(answer, part) == shape(await two.http_b.get(path.replace(part, fresh)), fresh), path


async def test_offers_do_not_name_their_owners(two: Two) -> None:
    """A and B see the same offer under pseudonyms that share nothing, and nothing of A in what B sees."""
    mine = (await two.http_a.get("/api/v1/marketplace/providers", params={"model": MODEL})).text
    theirs = await two.http_b.get("/api/v1/marketplace/providers", params={"model": MODEL})
    assert len(theirs.json()["items"]) == 1
    for name in ("device_id", "device", "provider", "offer"):
        assert two.known[name] not in theirs.text, name
    assert two.known["offer"] in mine
    network = (await two.http_a.get("/api/v1/users/me")).json()
    assert network["network_id"] not in theirs.text
    assert network["user_id"] not in theirs.text


async def test_a_transaction_names_nothing_of_the_other_side(two: Two) -> None:
    me = (await two.http_a.get("/api/v1/users/me")).json()
    theirs = (await two.http_b.get("/api/v1/users/me")).json()
    for name in WORDS:
        text = (await two.http_a.get(f"/api/v1/marketplace/transactions/{two.known[name]}")).text
        assert theirs["network_id"] not in text
        assert me["network_id"] not in text
    assert two.known["bought"] != two.known["sold"]
