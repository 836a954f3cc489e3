"""The relay and the device's machine, wired back to back."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from tests.bifrost.machines import NET_A, NET_B, World
from yggdrasil.errors import Conflict, LimitReached
from yggdrasil.wire.events import Closed, Data, Writable
from yggdrasil.wire.limits import WINDOW_BYTES, CloseCode
from yggdrasil.wire.messages import (
    ActionAnswered,
    ActionAsked,
    ConnectRequest,
    Devices,
    Disconnect,
    Drain,
    Error,
    Event,
    JobOffer,
    Welcome,
)

DOCUMENT = b'{"choices":[]}'


def one(events: list[object]) -> object:
    assert len(events) == 1, events
    return events[0]


def test_hello_to_welcome() -> None:
    world = World()
    device = world.device("pc")
    welcome = one(device.of(Welcome))
    assert welcome.heartbeat_seconds == 25
    assert welcome.limits.window_bytes == WINDOW_BYTES
    assert world.presence == [("pc", True)]
    hello = next(effect for effect in world.effects if effect[0] == "authenticate")
    assert hello[2:4] == ("token-pc", "pc")
    world.hang_up(device)
    assert world.presence == [("pc", True), ("pc", False)]
    assert world.core.counts() == (0, 0)
    assert world.core.next_timeout() is None, "a session leaves no timer behind"


@pytest.mark.parametrize("code", [CloseCode.UNAUTHENTICATED, CloseCode.UNAVAILABLE])
def test_a_refused_hello_is_closed(code: CloseCode) -> None:
    world = World()
    world.refuse = code
    device = world.device("pc")
    assert device.closed is not None
    assert device.closed[0] == code
    assert device.of(Closed) == [Closed(code, device.closed[1], code is CloseCode.UNAVAILABLE)]
    assert world.presence == []


def test_silence_before_hello_is_closed_after_five_seconds() -> None:
    world = World()
    device = world.dial("pc")
    world.now_ms += 4_999
    world.apply(world.core.on_timeout(world.now_ms))
    assert device.closed is None
    world.now_ms += 1
    world.apply(world.core.on_timeout(world.now_ms))
    assert device.closed == (CloseCode.HELLO_TIMEOUT, "no hello in time")


def test_a_verdict_that_never_comes_is_closed() -> None:
    world = World()
    world.answer = False
    device = world.device("pc")
    world.now_ms += 10_000
    world.apply(world.core.on_timeout(world.now_ms))
    assert device.closed is not None
    assert device.closed[0] == CloseCode.UNAVAILABLE
    assert world.verdict(device) == [], "a late verdict does nothing"


def test_a_newer_hello_of_the_same_device_replaces_the_older() -> None:
    world = World()
    old = world.device("pc", device=UUID(int=1))
    new = world.device("pc", device=UUID(int=1))
    assert old.closed is not None
    assert old.closed[0] == CloseCode.REPLACED
    assert new.closed is None
    assert world.presence == [("pc", True), ("pc", False), ("pc", True)]
    assert world.core.online(NET_A.bytes, new.device.bytes)


def test_the_same_name_in_two_networks_is_two_devices() -> None:
    world = World()
    here, there = world.device("pc", NET_A), world.device("pc", NET_B)
    assert here.closed is None
    assert there.closed is None


def test_discover_shows_the_own_network_only() -> None:
    world = World()
    pc = world.device("pc")
    world.device("phone")
    world.device("spy", NET_B)
    world.known.add((NET_A, "off"))
    pc.client.discover()
    world.run()
    devices = one(pc.of(Devices)).devices
    assert [(device.device_id, device.online) for device in devices] == [
        ("off", False),
        ("pc", True),
        ("phone", True),
    ]


def test_a_long_directory_comes_in_pages() -> None:
    world = World()
    pc = world.device("pc")
    world.known |= {(NET_A, f"device-{number:04}") for number in range(900)}
    pc.client.discover()
    world.run()
    assert len(one(pc.of(Devices)).devices) == 901
    assert sum(frame["type"] == "devices" for frame in pc.control()) > 1


def test_consent_then_data_both_ways_then_disconnect() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    spare = world.device("spare")
    world.link(phone, spare)  # so that the two ends have different numbers
    mine, theirs = world.link(pc, phone)
    assert (mine, theirs) == (1, 2)
    pc.client.send(mine, b"hello")
    phone.client.send(theirs, b"hi")
    world.run()
    pc.client.send(mine, b"bye")
    pc.client.disconnect(mine)
    world.run()
    assert phone.of(Data) == [Data(2, b"hello"), Data(2, b"bye")]
    assert pc.of(Data) == [Data(1, b"hi")]
    assert phone.of(Disconnect) == [Disconnect(link=2)]
    with pytest.raises(Conflict):
        phone.client.send(theirs, b"too late")


def test_deny_timeout_and_offline_differ_at_home() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    denied = pc.client.connect("phone", "x")
    world.run()
    phone.client.deny(one(phone.of(ConnectRequest)).ask)
    ignored = pc.client.connect("phone", "x")
    world.run()
    world.known.add((NET_A, "off"))
    offline = pc.client.connect("off", "x")
    unknown = pc.client.connect("nobody", "x")
    world.run()
    world.advance(30)
    codes = {error.request: error.code for error in pc.of(Error)}
    assert codes == {denied: "denied", ignored: "timeout", offline: "offline", unknown: "not_found"}
    late = phone.of(ConnectRequest)[-1].ask
    phone.client.allow(late)
    world.run()
    assert [(error.code, error.ask) for error in phone.of(Error)] == [("not_found", late)]


def test_unknown_and_foreign_are_the_same_bytes_and_effects() -> None:
    def probe(name: str) -> tuple[object, object]:
        world = World()
        pc = world.device("pc")
        spy = world.device("spy", NET_B)
        start = len(world.effects)
        world.raw(pc, {"type": "connect", "request": 1, "to": name, "purpose": "x"})
        action = {
            "type": "action",
            "request": 2,
            "to": name,
            "name": "x",
            "deadline_ms": 9,
            "idempotency_id": "i",
        }
        world.raw(pc, action)
        assert spy.control() == []
        same = [tuple("?" if part == name else part for part in effect) for effect in world.effects[start:]]
        return pc.frames, same

    assert probe("spy") == probe("nix")
    frames, _ = probe("spy")
    assert '"not_found"' in str(frames), "the probe must have reached the answer"


def test_the_control_of_the_probe_differs_at_home() -> None:
    """The same comparison must see a difference where there is one."""
    world = World()
    pc = world.device("pc")
    world.known.add((NET_A, "off"))
    for name in ("off", "nix"):
        world.raw(pc, {"type": "connect", "request": 1, "to": name, "purpose": "x"})
    first, second = pc.control()
    assert first != second


def test_credit_holds_the_sender_and_flows_back() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    mine, theirs = world.link(pc, phone)
    block = bytes(32 * 1024 - 4)
    for _ in range(12):
        pc.client.send(mine, block)
    world.run()
    assert len(phone.of(Data)) == WINDOW_BYTES // (32 * 1024), "no more than the window"
    assert pc.client.queued_bytes(mine) == 4 * 32 * 1024
    for data in phone.of(Data)[:2]:
        phone.client.consumed(theirs, len(data.payload))
    world.run()
    assert len(phone.of(Data)) == 10
    for data in phone.of(Data)[2:]:
        phone.client.consumed(theirs, len(data.payload))
    world.run()
    assert len(phone.of(Data)) == 12
    assert pc.closed is None


def test_a_full_queue_says_so_and_then_writable() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    mine, theirs = world.link(pc, phone)
    for _ in range(17):
        pc.client.send(mine, bytes(60_000))
    with pytest.raises(LimitReached):
        pc.client.send(mine, bytes(60_000))
    world.run()
    while not pc.of(Writable):
        got = phone.of(Data)
        assert got
        phone.events.clear()
        for data in got:
            phone.client.consumed(theirs, len(data.payload))
        world.run()
    assert pc.of(Writable) == [Writable(mine)]


def test_control_overtakes_data_and_an_end_does_not() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    mine, _ = world.link(pc, phone)
    phone.reads = False
    pc.client.send(mine, b"first")
    pc.client.disconnect(mine)
    world.run()
    pc.client.connect("phone", "urgent")
    world.run()
    before = len(phone.frames)
    phone.reads = True
    world.run()
    kinds = [json.loads(f)["type"] if isinstance(f, str) else "data" for f in phone.frames[before:]]
    assert kinds == ["connect_request", "data", "disconnect"]


def test_an_action_and_its_answers() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    number = pc.client.action("phone", "ring", {"loud": True}, deadline_ms=5_000, idempotency_id="i-1")
    world.run()
    asked = one(phone.of(ActionAsked))
    assert (asked.sender, asked.name, asked.arguments) == ("pc", "ring", {"loud": True})
    assert (asked.deadline_ms, asked.idempotency_id) == (5_000, "i-1")
    phone.client.action_result(asked.ask, True, {"rang": 1})
    late = pc.client.action("phone", "ring", {}, deadline_ms=1_000, idempotency_id="i-2")
    world.run()
    world.advance(1)
    assert pc.of(ActionAnswered) == [ActionAnswered(request=number, ok=True, result={"rang": 1})]
    assert [(error.request, error.code) for error in pc.of(Error)] == [(late, "timeout")]


def test_a_device_that_goes_takes_its_questions_and_links_along() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    mine, _ = world.link(pc, phone)
    asked = pc.client.connect("phone", "again")
    world.run()
    world.hang_up(phone)
    assert pc.of(Disconnect) == [Disconnect(link=mine)]
    assert [(error.request, error.code) for error in pc.of(Error)] == [(asked, "offline")]
    other = world.device("phone")
    other.client.action("pc", "x", {}, deadline_ms=9, idempotency_id="i")
    world.run()
    world.hang_up(other)
    pc.client.action_result(one(pc.of(ActionAsked)).ask, True, {})
    world.run()
    assert pc.of(Error)[-1].code == "not_found"


def test_heartbeat_measures_and_keeps_alive() -> None:
    world = World()
    pc = world.device("pc")
    world.advance(300)
    assert pc.closed is None
    assert world.core.rtt_ms(pc.session) == 0
    pings = [frame for frame in pc.control() if frame["type"] == "ping"]
    assert 11 <= len(pings) <= 12
    assert pings[-1]["rtt_ms"] == 0


def test_no_sign_of_life_is_cut() -> None:
    world = World()
    pc = world.device("pc")
    for second in range(1, 36):
        assert pc.closed is None, second
        world.now_ms += 1_000
        world.apply(world.core.on_timeout(world.now_ms))
        while world.core.poll_transmit(pc.session, world.now_ms) is not None:
            pass  # the socket takes it, the device is gone
    assert pc.closed == (CloseCode.HEARTBEAT, "no sign of life")


def test_the_client_gives_up_on_a_silent_server() -> None:
    world = World()
    pc = world.device("pc")
    now = world.now_ms / 1000
    events: list[object] = []
    for second in range(1, 60):
        events += pc.client.on_timeout(now + second)
    assert events == [Closed(CloseCode.HEARTBEAT, "the server is silent", True)]
    assert pc.client.next_timeout() is None


def test_revocation_matches_all_fields_given() -> None:
    world = World()
    pc, spy = world.device("pc"), world.device("spy", NET_B)
    nothing = dict.fromkeys(("network_id", "user_id", "device", "session_id", "key_id"))
    ended, effects = world.core.revoke(world.now_ms, **nothing)
    assert (ended, effects) == (0, []), "no field, no session"
    wrong = nothing | {"network_id": NET_B.bytes, "device": pc.device.bytes}
    assert world.core.revoke(world.now_ms, **wrong)[0] == 0
    right = nothing | {"network_id": NET_A.bytes}
    ended, effects = world.core.revoke(world.now_ms, **right)
    world.apply(effects)
    assert ended == 1
    assert pc.closed is not None
    assert pc.closed[0] == CloseCode.REVOKED
    assert spy.closed is None


def test_a_revocation_during_the_verdict_wins() -> None:
    world = World()
    world.answer = False
    pc = world.device("pc")
    fields = dict.fromkeys(("network_id", "user_id", "session_id", "key_id"))
    world.core.revoke(world.now_ms, device=pc.device.bytes, **fields)
    world.apply(world.verdict(pc))
    assert pc.closed is not None
    assert pc.closed[0] == CloseCode.REVOKED
    assert world.presence == []


def test_drain_tells_refuses_and_ends() -> None:
    world = World()
    pc = world.device("pc")
    job = world.open_job(pc)
    link = one(pc.of(JobOffer)).link
    world.apply(world.core.drain(5_000, world.now_ms))
    world.run()
    assert pc.of(Drain) == [Drain(reconnect_after_ms=5_000)]
    assert world.core.open(world.now_ms, bytes(32))[0] == -CloseCode.GOING_AWAY
    assert not world.core.online(NET_A.bytes, pc.device.bytes)
    pc.client.accept(link)
    pc.client.done(link, prompt_tokens=1, completion_tokens=0)
    world.run()
    assert world.take(job) == (True, [], ("done", 1, 0)), "what runs may end"
    world.advance(5)
    assert pc.closed is not None
    assert pc.closed[0] == CloseCode.GOING_AWAY
    assert world.core.next_timeout() is None


def test_an_event_reaches_its_device() -> None:
    world = World()
    pc = world.device("pc")
    args = (NET_A.bytes, pc.device.bytes)
    sent, effects = world.core.event(*args, "news", '{"n":1}', world.now_ms)
    world.apply(effects)
    world.run()
    assert sent
    assert pc.of(Event) == [Event(name="news", data={"n": 1})]
    assert not world.core.event(*args, "news", "[]", world.now_ms)[0]
    assert not world.core.event(*args, "x" * 65, "{}", world.now_ms)[0]
    assert not world.core.event(NET_B.bytes, pc.device.bytes, "news", "{}", world.now_ms)[0]
