"""Every socket message × every id in it: B tries A's id and one that never was; same frames."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.isolation.conftest import Two
from tests.isolation.test_routes import random_device
from yggdrasil.wire import messages
from yggdrasil.wire.proof import decode_bytes, encode_bytes, hello_payload

REPEATS = 3
NEVER_A_LINK = 987_654
PING = json.dumps({"type": "ping", "id": 99})

Say = Callable[[str], dict[str, Any]]
# type → (what names something of another, message with it); None: it names nothing beyond its own request.
PROBES: dict[str, tuple[str, Say] | None] = {
    "hello": ("device", lambda to: {"device_id": to}),
    "discover": None,
    "connect": ("device", lambda to: {"request": 7, "to": to, "purpose": "probe"}),
    "allow": ("number", lambda ask: {"ask": int(ask)}),
    "deny": ("number", lambda ask: {"ask": int(ask)}),
    "credit": ("number", lambda link: {"link": int(link), "bytes": 100}),
    "action": (
        "device",
        lambda to: {
            "request": 7,
            "to": to,
            "name": "probe",
            "deadline_ms": 1000,
            "idempotency_id": "probe",
            "arguments": {},
        },
    ),
    "action_result": ("number", lambda ask: {"ask": int(ask), "ok": True, "result": {}}),
    "disconnect": ("number", lambda link: {"link": int(link)}),
    "ping": None,
    "pong": None,
    "accept": ("number", lambda link: {"link": int(link)}),
    "busy": ("number", lambda link: {"link": int(link), "message": ""}),
    "done": (
        "number",
        lambda link: {"link": int(link), "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ),
    "fault": ("number", lambda link: {"link": int(link), "code": "x", "message": ""}),
}


def test_every_message_is_probed() -> None:
    known = {kind.__struct_config__.tag for kind in typing.get_args(messages.ToServer)}
    assert set(PROBES) == known


async def dial(two: Two, device_id: Any) -> tuple[ClientConnection, dict[str, Any]]:
    """B's socket with a hello sent for `device_id`."""
    socket = await connect(
        f"ws://127.0.0.1:{two.house.port}/bifrost",
        subprotocols=[Subprotocol("bifrost.v1")],
        compression=None,
        ping_interval=None,
    )
    challenge = json.loads(await socket.recv())
    token = await two.b.token()
    proof = two.b.identity.private_key().sign(
        hello_payload(decode_bytes(challenge["nonce"], 32, "nonce"), token)
    )
    hello = {"type": "hello", "token": token, "device_id": device_id, "proof": encode_bytes(proof)}
    await socket.send(json.dumps(hello))
    return socket, challenge


async def frames_after(two: Two, kind: str, say: Say, value: str) -> list[Any]:
    """What B sees after one message, until its answer and a later pong, or the end."""
    if kind == "hello":
        socket, _ = await dial(two, value)
        return await until_end(socket)
    socket, _ = await dial(two, two.b.identity.device_id)
    async with socket:
        welcome = json.loads(await socket.recv())
        assert welcome["type"] == "welcome"
        message = say(value)
        await socket.send(json.dumps({"type": kind, **message}))
        # A request has an answer of its own; whatever else is sent is over when a later ping is answered.
        if "request" not in message:
            await socket.send(PING)
        seen: list[Any] = []
        try:
            while not seen or seen[-1].get("type") != "pong":
                frame = json.loads(await socket.recv())
                if frame["type"] == "ping":
                    continue
                seen.append(without(frame, value))
                if "request" in message and frame.get("request") == message["request"]:
                    await socket.send(PING)
        except ConnectionClosed as closed:
            seen.append(closed.rcvd and (closed.rcvd.code, closed.rcvd.reason))
        return seen


async def frames_after_data(two: Two, frame: bytes) -> list[Any]:
    """What B sees after a binary frame, until a later pong, or the end."""
    socket, _ = await dial(two, two.b.identity.device_id)
    async with socket:
        assert json.loads(await socket.recv())["type"] == "welcome"
        await socket.send(frame)
        await socket.send(PING)
        seen: list[Any] = []
        try:
            while not seen or seen[-1].get("type") != "pong":
                heard = json.loads(await socket.recv())
                if heard["type"] != "ping":
                    seen.append(heard)
        except ConnectionClosed as closed:
            seen.append(closed.rcvd and (closed.rcvd.code, closed.rcvd.reason))
        return seen


def without(seen: Any, value: str) -> Any:
    """The frame without the id that B itself sent."""
    if isinstance(seen, dict):
        return {name: without(item, value) for name, item in seen.items()}
    if isinstance(seen, str):
        return seen.replace(value, "<id>") if not value.isdigit() else seen
    return "<id>" if str(seen) == value else seen


async def until_end(socket: ClientConnection) -> list[Any]:
    seen: list[Any] = []
    try:
        while True:
            seen.append(json.loads(await socket.recv()))
    except ConnectionClosed as closed:
        seen.append(closed.rcvd and (closed.rcvd.code, closed.rcvd.reason))
    return seen


@pytest.mark.parametrize("kind", [kind for kind, probe in PROBES.items() if probe is not None])
async def test_a_foreign_id_is_answered_as_one_that_never_was(two: Two, kind: str) -> None:
    probe = PROBES[kind]
    assert probe is not None
    names, say = probe
    before = await two.view_of_a()
    for _ in range(REPEATS):
        # A's device is online and has its link or ask 1; B has none.
        foreign = two.known["device_id"] if names == "device" else "1"
        absent = random_device() if names == "device" else str(NEVER_A_LINK)
        there, not_there = (
            await frames_after(two, kind, say, foreign),
            await frames_after(two, kind, say, absent),
        )
        assert there == not_there
        assert there, "nothing was seen at all"
    assert await two.view_of_a() == before


async def test_the_control_a_own_device_is_found(two: Two) -> None:
    """The probe can tell: B's own device is known to B, and answers otherwise than one that never was."""
    own = await frames_after(two, "connect", PROBES["connect"][1], two.b.identity.device_id)  # type: ignore[index]
    never = await frames_after(two, "connect", PROBES["connect"][1], random_device())  # type: ignore[index]
    assert own != never


async def test_discover_shows_the_own_network_alone(two: Two) -> None:
    socket, _ = await dial(two, two.b.identity.device_id)
    async with socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "discover", "request": 1}))
        answer = json.loads(await socket.recv())
    assert [device["device_id"] for device in answer["devices"]] == [two.b.identity.device_id]
