"""What a hostile or broken peer can do: never a panic, never without bound, never across a border."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bifrost.machines import NET_A, NET_B, Device, World
from yggdrasil.errors import ProtocolViolation, YggdrasilError
from yggdrasil.wire.client import Client
from yggdrasil.wire.limits import MESSAGE_BYTES_MAX, WINDOW_BYTES, CloseCode
from yggdrasil.wire.messages import JobOffer, decode_to_server, pack


def closed_by(frame: str | bytes | dict[str, object], prepare: object = None) -> int:
    world = World()
    pc = world.device("pc")
    phone = world.device("phone")
    if prepare is not None:
        prepare(world, pc, phone)
    world.raw(pc, frame)
    assert phone.closed is None, "the neighbour is not hurt"
    return pc.closed[0] if pc.closed else 0


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", CloseCode.PROTOCOL),
        ("nonsense", CloseCode.PROTOCOL),
        ("[]", CloseCode.PROTOCOL),
        ('{"type":', CloseCode.PROTOCOL),
        ("{}", CloseCode.PROTOCOL),
        ('{"type":7}', CloseCode.PROTOCOL),
        ('{"type":"hello","token":"t","device_id":"d","proof":"p"}', CloseCode.OUT_OF_ORDER),
        (b"", CloseCode.PROTOCOL),
        (b"\0\0\0\1", CloseCode.PROTOCOL),
        (b"\0\0\0\0x", CloseCode.LINK),
        (b"\0\0\0\1x", CloseCode.LINK),
        ({"type": "credit", "link": 9, "bytes": 9}, CloseCode.LINK),
        ({"type": "accept", "link": 9}, CloseCode.LINK),
        ("x" * (MESSAGE_BYTES_MAX + 1), CloseCode.TOO_LARGE),
        (bytes(MESSAGE_BYTES_MAX + 1), CloseCode.TOO_LARGE),
        ({"type": "nothing_we_know"}, 0),
        ({"type": "pong", "id": 4_000}, 0),
        ({"type": "allow", "ask": 7}, 0),
        ("[" * 60_000, CloseCode.PROTOCOL),
        ('{"type":"discover","request":1,"x":' + "[" * 60_000, CloseCode.PROTOCOL),
    ],
)
def test_a_frame_out_of_the_blue(frame: str | bytes | dict[str, object], code: int) -> None:
    assert closed_by(frame) == code


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (pack(1, b"x"), 0),
        ({"type": "accept", "link": 1}, CloseCode.OUT_OF_ORDER),
        ({"type": "done", "link": 1, "usage": {"prompt_tokens": 1}}, CloseCode.OUT_OF_ORDER),
        ({"type": "credit", "link": 1, "bytes": 1}, CloseCode.CREDIT),
        ({"type": "disconnect", "link": 1}, 0),
    ],
)
def test_a_frame_on_a_device_link(frame: str | bytes | dict[str, object], code: int) -> None:
    assert closed_by(frame, lambda world, pc, phone: world.link(pc, phone)) == code


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (pack(1, b"x"), CloseCode.OUT_OF_ORDER),
        ({"type": "done", "link": 1, "usage": {"prompt_tokens": 1}}, CloseCode.OUT_OF_ORDER),
        ({"type": "disconnect", "link": 1}, CloseCode.OUT_OF_ORDER),
        ({"type": "credit", "link": 1, "bytes": WINDOW_BYTES}, CloseCode.CREDIT),
        ({"type": "accept", "link": 1}, 0),
        ({"type": "done", "link": 1}, 0),
    ],
)
def test_a_frame_on_an_offered_job(frame: str | bytes | dict[str, object], code: int) -> None:
    assert closed_by(frame, lambda world, pc, phone: world.open_job(pc)) == code


def test_data_beyond_credit_is_the_senders_fault() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    mine, _ = world.link(pc, phone)
    for _ in range(4):
        world.raw(pc, pack(mine, bytes(65_532)))
    assert pc.closed is None
    world.raw(pc, pack(mine, b"x"))
    assert pc.closed is not None
    assert pc.closed[0] == CloseCode.CREDIT
    assert phone.closed is None


def test_tiny_frames_cost_enough_to_bound_their_number() -> None:
    world = World()
    pc = world.device("pc")
    job = world.open_job(pc)
    world.raw(pc, {"type": "accept", "link": 1})
    sent = 0
    while pc.closed is None:
        world.raw(pc, pack(1, b"x"))
        sent += 1
        assert sent < 10_000
    assert sent == WINDOW_BYTES // 64 + 1
    assert len(world.take(job)[1]) == sent - 1


def test_a_used_request_number_is_out_of_order() -> None:
    world = World()
    pc, _ = world.device("pc"), world.device("phone")
    ask = {"type": "connect", "request": 5, "to": "phone", "purpose": "x"}
    world.raw(pc, ask)
    world.raw(pc, ask)
    assert pc.closed is not None
    assert pc.closed[0] == CloseCode.OUT_OF_ORDER


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ({"type": "connect", "request": 0, "to": "a", "purpose": "p"}, "request: a whole number from 1"),
        ({"type": "connect", "request": 1, "to": "a b", "purpose": "p"}, "to: 1 to 64 of A-Z"),
        ({"type": "connect", "request": 1, "to": "a", "purpose": "p" * 65}, "purpose: text of 1 to 64"),
        ({"type": "connect", "request": 1, "to": "a"}, "purpose: is missing"),
        ({"type": "connect", "request": 1, "to": "a", "purpose": "p", "relay": "x"}, "relay: auto, force"),
        (
            {"type": "connect", "request": 1, "to": "phone", "purpose": "p", "relay": "never"},
            "relay: a direct",
        ),
        ({"type": "connect", "request": 1, "to": "pc", "purpose": "p"}, "to: not this device"),
        ({"type": "action_result", "ask": 1, "ok": 1}, "ok: true or false"),
        ({"type": "action_result", "ask": 1, "ok": True, "result": []}, "result: a JSON object"),
        ({"type": "credit", "link": 1, "bytes": 262145}, "bytes: a whole number from 1 to 262144"),
        ({"type": "done", "link": 1, "usage": {}}, "usage.prompt_tokens: is missing"),
        ({"type": "what"}, "type: not a message"),
    ],
)
def test_a_broken_rule_is_named_and_changes_nothing(message: dict[str, object], rule: str) -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    world.raw(pc, message)
    (error,) = pc.control()
    assert error["code"] == "invalid_input"
    assert str(error["message"]).startswith(rule)
    assert error.get("request") == (message.get("request") or None)
    assert phone.control() == []
    assert pc.closed is None


@pytest.mark.parametrize(
    "opaque", ['{"x":1e999}', '{"x":"\\ud800"}', '{"x":' + "[" * 2000 + "]" * 2000 + "}", "7"]
)
def test_what_the_relay_carries_cannot_hurt_the_receiver(opaque: str) -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    head = '{"type":"action","request":1,"to":"phone","name":"n","deadline_ms":9,"idempotency_id":"i",'
    world.raw(pc, head + '"arguments":' + opaque + "}")
    assert [error["code"] for error in pc.control()] == ["invalid_input"]
    assert phone.control() == []


def test_requests_have_a_rate_and_messages_a_flood_limit() -> None:
    world = World(messages_burst=500)
    pc = world.device("pc")
    for number in range(1, 102):
        world.raw(pc, {"type": "discover", "request": number})
    error = pc.control()[-1]
    assert (error["code"], error["retry_after_ms"]) == ("limit_reached", 20)
    assert pc.closed is None
    for _ in range(500):
        world.raw(pc, {"type": "pong", "id": 77})
    assert pc.closed is not None
    assert pc.closed[0] == CloseCode.FLOOD


def test_quotas_hold() -> None:
    world = World(connects_max=2, actions_max=2, asks_max=3)
    pc, phone = world.device("pc"), world.device("phone")
    for number in range(1, 4):
        world.raw(pc, {"type": "connect", "request": number, "to": "phone", "purpose": "x"})
    for number in range(4, 7):
        action = {"to": "phone", "name": "x", "deadline_ms": 9, "idempotency_id": "i"}
        world.raw(pc, {"type": "action", "request": number} | action)
    answers = [(frame["request"], frame["code"]) for frame in pc.control()]
    assert answers == [(3, "limit_reached"), (5, "limit_reached"), (6, "limit_reached")]
    assert len(phone.control()) == 3


def test_a_reader_that_stops_is_bounded_and_cut() -> None:
    world = World(data_bytes_max=200_000)
    pc, phone = world.device("pc"), world.device("phone")
    mine, _ = world.link(pc, phone)
    phone.reads = False
    for _ in range(3):
        world.raw(pc, pack(mine, bytes(65_000)))
    assert phone.closed is None
    world.raw(pc, pack(mine, bytes(65_000)))
    assert phone.closed is not None
    assert phone.closed[0] == CloseCode.SLOW
    assert pc.closed is None


def test_a_reader_that_stops_for_five_seconds_is_cut() -> None:
    world = World()
    pc, phone = world.device("pc"), world.device("phone")
    phone.reads = False
    world.raw(pc, {"type": "connect", "request": 1, "to": "phone", "purpose": "x"})
    world.now_ms += 4_999
    world.apply(world.core.on_timeout(world.now_ms))
    assert phone.closed is None
    world.now_ms += 1
    world.apply(world.core.on_timeout(world.now_ms))
    assert phone.closed is not None
    assert phone.closed[0] == CloseCode.SLOW


def test_the_shard_is_full_at_its_limit() -> None:
    world = World(sessions_max=1)
    world.device("pc")
    assert world.core.open(world.now_ms, bytes(32)) == (-CloseCode.FULL, [])


def test_stale_names_of_sessions_and_jobs_do_nothing() -> None:
    world = World()
    pc = world.device("pc")
    stale = pc.session
    world.hang_up(pc)
    fresh = world.device("pc")
    assert fresh.session != stale
    assert world.core.receive_text(stale, '{"type":"discover","request":1}', world.now_ms) == []
    assert world.core.closed(stale, world.now_ms) == []
    assert world.core.poll_transmit(stale, world.now_ms) is None
    assert world.core.take_job(999, world.now_ms) == (None, [])
    assert world.core.cancel_job(999, world.now_ms) == []
    assert world.core.directory(999, [], world.now_ms) == []
    assert world.core.exists(999, True, world.now_ms) == []
    assert fresh.closed is None


names = st.sampled_from(["pc", "phone", "spy", "nobody", ""])
numbers = st.sampled_from([0, 1, 2, 3, 64, 262_144, 2**32 - 1, 2**32, -1, "1", None])
fields = st.fixed_dictionaries(
    {"type": st.sampled_from([
        "hello", "discover", "connect", "allow", "deny", "credit", "action", "action_result", "disconnect",
        "ping", "pong", "accept", "busy", "done", "fault", "welcome", "job", "x",
    ])},
    optional={
        "request": numbers, "ask": numbers, "link": numbers, "bytes": numbers, "id": numbers, "to": names,
        "purpose": st.text(max_size=3), "name": st.text(max_size=3), "deadline_ms": numbers,
        "idempotency_id": st.text(max_size=3),
        "arguments": st.dictionaries(st.text(max_size=3), numbers, max_size=2),
        "ok": st.booleans(), "usage": st.just({"prompt_tokens": 1, "completion_tokens": 2}), "code": names,
        "token": names, "device_id": names, "proof": names, "relay": names,
    },
)  # fmt: skip
frames = st.one_of(
    fields.map(json.dumps),
    fields.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])),
    st.text(max_size=200),
    st.binary(max_size=200),
    st.tuples(st.integers(0, 4), st.binary(min_size=1, max_size=70_000)).map(lambda pair: pack(*pair)),
)
moves = st.one_of(
    st.tuples(st.sampled_from([0, 1, 2]), frames),
    st.tuples(st.just("job"), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
)


@settings(max_examples=150)
@given(st.lists(moves, max_size=25))
def test_garbage_never_panics_leaks_or_crosses(script: list[tuple[object, object]]) -> None:
    world = World(messages_burst=100)
    everyone = [world.device("pc"), world.device("phone"), world.device("spy", NET_B)]
    jobs: list[int] = []
    for who, what in script:
        live = [device for device in everyone if device.closed is None]
        if who == "job" and isinstance(what, int) and everyone[what].closed is None:
            jobs.append(world.open_job(everyone[what], bytes(1000)))
        elif who == "wait" and isinstance(what, int):
            world.advance(what)
        elif isinstance(who, int) and everyone[who] in live and isinstance(what, (str, bytes)):
            world.raw(everyone[who], what)
    border(everyone)
    for job in jobs:
        world.take(job)
        world.apply(world.core.cancel_job(job, world.now_ms))
    for device in everyone:
        if device.closed is None:
            world.hang_up(device)
    assert world.core.counts() == (0, 0)
    assert world.core.next_timeout() is None


def border(everyone: list[Device]) -> None:
    """Nothing of one network was told in the other."""
    for device in everyone:
        others = {"pc", "phone"} if device.network == NET_B else {"spy"}
        for frame in device.control():
            assert frame.get("from") not in others
            assert frame.get("peer") not in others
            if device.network != NET_A and frame["type"] == "devices":
                assert {line["device_id"] for line in frame["devices"]} == {"spy"}


@settings(max_examples=300)
@given(frames)
def test_the_client_survives_any_server(frame: str | bytes) -> None:
    world = World()
    pc = world.device("pc")
    world.open_job(pc, bytes(1000))
    assert pc.of(JobOffer)
    final = range(4500, 5000)
    code = final.start
    try:
        pc.client.receive(frame, 2.0)
    except ProtocolViolation as error:
        code = error.close_code
    assert code in final


@given(st.text(max_size=70), st.text(max_size=70), st.integers(-1, 2**33))
def test_the_client_never_sends_what_the_relay_refuses(to: str, purpose: str, number: int) -> None:
    world = World()
    pc = world.device("pc")
    client: Client = pc.client
    for send in (
        lambda: client.connect(to, purpose),
        lambda: client.action(to, purpose, {"a": purpose}, deadline_ms=number, idempotency_id=to),
        lambda: client.allow(number),
    ):
        try:
            send()
        except YggdrasilError:
            continue
        world.run()
        assert pc.closed is None
        assert pc.control()[-1]["code"] != "invalid_input" or to == "pc"


@given(fields)
def test_both_readers_agree_on_what_is_a_message(message: dict[str, object]) -> None:
    """The relay's reader and the Structs of `wire` must not differ on what a device may say."""
    world = World()
    pc, _ = world.device("pc"), world.device("phone")
    try:
        decode_to_server(json.dumps(message))
        readable = True
    except ProtocolViolation:
        readable = False
    world.raw(pc, message)
    refused = any(frame["code"] == "invalid_input" for frame in pc.control() if frame["type"] == "error")
    own = message.get("to") == "pc"
    if message["type"] != "hello" and not own:
        assert refused == (not readable), (message, pc.control(), pc.closed)
