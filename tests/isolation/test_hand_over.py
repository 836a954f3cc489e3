"""Asks and hand-overs of A, tried by B with B's own key, token and session: as if they never were."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.isolation.conftest import Two
from tests.isolation.test_routes import shape
from tests.live.house import IDS
from yggdrasil.vedrfolnir.hand_over import HandOver
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile
from yggdrasil.wire.hand_over import approve_message

ASKS = "/api/v1/users/me/hand-over-asks"


async def yes_of_b(two: Two, flow: str) -> tuple[int, list[tuple[str, str]], bytes]:
    session, at = await two.b.session(), int(time.time())
    signed = approve_message(UUID(flow), "000000", session.network_id, at)
    body = {"check": "000000", "at_seconds": at, "proof": two.b.identity.sign(signed)}
    return shape(await two.http_b.post(f"{ASKS}/{flow}/approve", json=body), flow)


async def test_a_yes_to_a_foreign_ask_is_answered_as_to_none(two: Two) -> None:
    before = await two.view_of_a()
    for _ in range(7):  # more than the tries of an ask: none of them may be spent by B
        foreign, never = await yes_of_b(two, two.known["ask"]), await yes_of_b(two, str(uuid4()))
        assert foreign == never
        assert foreign[0] == httpx.codes.NOT_FOUND
    assert await two.view_of_a() == before


async def test_b_sees_nothing_of_what_a_asked_and_was_given(two: Two) -> None:
    for path in (ASKS, "/api/v1/users/me/hand-overs"):
        mine, theirs = (await two.http_a.get(path)).json(), (await two.http_b.get(path)).json()
        assert mine["items"], "the control: A has one"
        assert theirs["items"] == []


async def test_a_handed_over_token_acts_in_its_network_alone(two: Two) -> None:
    """B's network, handed to a tablet: nothing of A's answers it, as nothing of A's answers B."""
    file = IdentityFile(two.house.place / "b-away.json")
    file.save(Identity.new(two.house.url, "away", IDS))
    async with HandOver(file) as away:
        asked = await away.ask("network-b@example.org", "away", IDS)
        session = await away.take(asked, await two.house.mail.code("network-b@example.org"))
        assert session is not None
        answers: list[Any] = []
        for device in (two.known["device_id"], "network-a-never00"):
            answer = await two.http_b.get(
                f"/api/v1/devices/{device}", headers={"authorization": f"Bearer {session.access_token}"}
            )
            answers.append(shape(answer, device)[::2])
        assert answers[0] == answers[1]
        assert [one["device_id"] for one in await away.devices()] == ["network-b-device"]
        assert session.network_id == (await two.b.session()).network_id
        (given,) = (await two.http_b.get("/api/v1/users/me/hand-overs")).json()["items"]
        assert (
            await two.http_b.delete(f"/api/v1/users/me/hand-overs/{given['hand_over_id']}")
        ).status_code == 204
