"""The device's machine alone: what it refuses to send, what it refuses to believe."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from yggdrasil.errors import Conflict, InvalidInput, ProtocolViolation
from yggdrasil.wire import messages, proof
from yggdrasil.wire.client import Client
from yggdrasil.wire.events import Closed, Data, JobReady
from yggdrasil.wire.limits import WINDOW_BYTES, CloseCode, may_reconnect
from yggdrasil.wire.messages import JobOffer, decode_to_device, encode, pack, unpack
from yggdrasil.wire.transitions import LINK_TRANSITIONS, TRANSITIONS, LinkInput, LinkState, State

NONCE = bytes(range(32))
CHALLENGE = json.dumps({"type": "challenge", "nonce": proof.encode_bytes(NONCE)})
LIMITS = {
    "message_bytes_max": 65536, "window_bytes": 262144, "links_max": 1, "connects_max": 1, "actions_max": 1,
    "requests_per_second": 1,
}  # fmt: skip
WELCOME = json.dumps({"type": "welcome", "session": "s", "heartbeat_seconds": 25, "limits": LIMITS})
SAMPLES: dict[str, dict[str, Any]] = {
    "challenge": {"nonce": proof.encode_bytes(NONCE)},
    "welcome": json.loads(WELCOME),
    "devices": {"request": 1, "devices": []},
    "connect_request": {"ask": 1, "from": "a", "purpose": "p"},
    "connected": {"link": 1, "peer": "a", "path": "relay", "request": 1},
    "credit": {"link": 1, "bytes": 1},
    "action": {"ask": 1, "from": "a", "name": "n", "deadline_ms": 1, "idempotency_id": "i"},
    "action_result": {"request": 1, "ok": True},
    "disconnect": {"link": 1},
    "ping": {"id": 1},
    "pong": {"id": 1},
    "event": {"name": "n"},
    "error": {"code": "c", "message": "m"},
    "drain": {"reconnect_after_ms": 1},
    "job": {"link": 1, "job": "j", "kind": "chat", "model": "m", "bytes": 0, "deadline_ms": 1},
}


def machine(state: State = State.LIVE) -> Client:
    client = Client(device_id="pc", token="t", sign=lambda payload: payload[:64].ljust(64), now=0.0)
    if state is not State.DIALLED:
        client.receive(CHALLENGE, 0.0)
    if state is State.LIVE:
        client.receive(WELCOME, 0.0)
    while client.poll_transmit() is not None:
        pass
    return client


def frame(kind: str, **fields: object) -> str:
    return json.dumps(SAMPLES[kind] | {"type": kind} | fields)


@pytest.mark.parametrize("state", [State.DIALLED, State.GREETED, State.LIVE])
@pytest.mark.parametrize("kind", list(SAMPLES))
def test_every_message_in_every_state(state: State, kind: str) -> None:
    client = machine(state)
    struct = type(decode_to_device(frame(kind)))
    if (state, struct) in TRANSITIONS:
        client.receive(frame(kind), 1.0)
        assert client.state is TRANSITIONS[state, struct]
    else:
        with pytest.raises(ProtocolViolation) as caught:
            client.receive(frame(kind), 1.0)
        assert caught.value.close_code == CloseCode.OUT_OF_ORDER
        assert client.state is State.CLOSED


@pytest.mark.parametrize("state", list(LinkState))
@pytest.mark.parametrize("move", list(LinkInput))
def test_every_move_on_every_link(state: LinkState, move: LinkInput) -> None:
    client = machine()
    client.receive(frame("connected") if state is LinkState.OPEN else frame("job"), 1.0)
    if state is LinkState.RUNNING:
        client.accept(1)
    if state is LinkState.ENDING:
        client.busy(1)
    act = {
        LinkInput.SEND: lambda: client.send(1, b"x"),
        LinkInput.DISCONNECT: lambda: client.disconnect(1),
        LinkInput.ACCEPT: lambda: client.accept(1),
        LinkInput.BUSY: lambda: client.busy(1),
        LinkInput.DONE: lambda: client.done(1, prompt_tokens=1, completion_tokens=1),
        LinkInput.FAULT: lambda: client.fault(1, "c"),
    }[move]
    if (state, move) in LINK_TRANSITIONS:
        act()
        assert client.poll_transmit() is not None
    else:
        with pytest.raises(Conflict):
            act()


def test_the_proof_is_over_label_nonce_and_token() -> None:
    signed: list[bytes] = []
    client = Client(device_id="pc", token="secret", sign=lambda p: signed.append(p) or bytes(64), now=0.0)
    client.receive(CHALLENGE, 0.0)
    hello = json.loads(str(client.poll_transmit()))
    assert hello["proof"] == base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()
    token_hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    assert signed == [b"bifrost.v1 hello\0" + NONCE + bytes.fromhex(token_hash)]


@pytest.mark.parametrize("nonce", ["", "AAAA", "!" * 43, proof.encode_bytes(bytes(33))])
def test_a_bad_nonce_is_the_servers_fault(nonce: str) -> None:
    with pytest.raises(ProtocolViolation):
        machine(State.DIALLED).receive(json.dumps({"type": "challenge", "nonce": nonce}), 0.0)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda c: c.connect("a b", "p"), "to"),
        (lambda c: c.connect("a", ""), "purpose"),
        (lambda c: c.action("a", "n", {}, deadline_ms=0, idempotency_id="i"), "deadline_ms"),
        (lambda c: c.action("a", "n", {"x": "y" * 70_000}, deadline_ms=1, idempotency_id="i"), "arguments"),
        (lambda c: c.action_result(1, True, {"x": "y" * 70_000}), "result"),
        (lambda c: c.allow(0), "ask"),
        (lambda c: c.send(1, b""), "payload"),
        (lambda c: c.send(1, bytes(65_533)), "payload"),
    ],
)
def test_our_own_mistakes_name_the_field_and_send_nothing(call: Any, field: str) -> None:
    client = machine()
    with pytest.raises(InvalidInput) as caught:
        call(client)
    assert caught.value.field == field
    assert client.poll_transmit() is None
    assert client.discover() == 1, "no number was used up"


def test_nothing_goes_out_before_welcome() -> None:
    for state in (State.DIALLED, State.GREETED):
        with pytest.raises(Conflict):
            machine(state).discover()


@pytest.mark.parametrize("data", [pack(1, b"x"), pack(0, b"x"), b"\0\0\0\1", b""])
def test_data_on_no_link_is_the_servers_fault(data: bytes) -> None:
    client = machine()
    with pytest.raises(ProtocolViolation):
        client.receive(data, 1.0)


def test_a_server_that_exceeds_credit_or_body_is_at_fault() -> None:
    client = machine()
    client.receive(frame("connected"), 1.0)
    for _ in range(4):
        assert isinstance(client.receive(pack(1, bytes(65_532)), 1.0)[0], Data)
    with pytest.raises(ProtocolViolation) as caught:
        client.receive(pack(1, b"x"), 1.0)
    assert caught.value.close_code == CloseCode.CREDIT
    client = machine()
    client.receive(frame("connected"), 1.0)
    with pytest.raises(ProtocolViolation):
        client.receive(frame("credit", bytes=WINDOW_BYTES), 1.0)
    client = machine()
    offer, ready = client.receive(frame("job", bytes=0), 1.0)
    assert isinstance(offer, JobOffer)
    assert ready == JobReady(1, "j", "chat", "m", b"")
    with pytest.raises(ProtocolViolation):
        client.receive(pack(1, b"more than was announced"), 1.0)


def test_a_link_number_is_never_used_twice() -> None:
    client = machine()
    client.receive(frame("connected", link=5), 1.0)
    client.receive(frame("disconnect", link=5), 1.0)
    with pytest.raises(ProtocolViolation):
        client.receive(frame("job", link=5), 1.0)


def test_data_after_the_end_of_a_link_is_dropped() -> None:
    client = machine()
    client.receive(frame("connected"), 1.0)
    client.send(1, b"first")
    client.disconnect(1)
    assert client.receive(pack(1, b"crossed"), 1.0) == []
    assert client.poll_transmit() == pack(1, b"first")
    assert json.loads(str(client.poll_transmit())) == {"type": "disconnect", "link": 1}
    assert client.receive(pack(1, b"crossed"), 1.0) == []
    assert client.receive(frame("disconnect"), 1.0) == []


def test_the_end_is_told_once_with_its_rule() -> None:
    client = machine()
    client.receive(frame("connected"), 1.0)
    assert client.closed(4002, "slow") == [Closed(4002, "slow", True)]
    assert client.closed(4002, "slow") == []
    assert client.receive(frame("ping"), 1.0) == []
    assert client.next_timeout() is None
    with pytest.raises(Conflict):
        client.discover()
    assert [may_reconnect(code) for code in (1006, 4000, 4499, 4500, 4999)] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_more_devices_than_there_may_be() -> None:
    client = machine()
    page = [{"device_id": f"d{number}"} for number in range(600)]
    for _ in range(16):
        client.receive(frame("devices", devices=page, more=True), 1.0)
    with pytest.raises(ProtocolViolation):
        client.receive(frame("devices", devices=page, more=True), 1.0)


def test_pack_and_unpack() -> None:
    assert unpack(pack(258, b"x")) == (258, b"x")
    assert pack(258, b"x")[:4] == b"\0\0\1\2"
    assert encode(messages.ConnectRequest(ask=1, sender="a", purpose="p")) == (
        '{"type":"connect_request","ask":1,"from":"a","purpose":"p"}'
    )
