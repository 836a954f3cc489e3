"""A way to say every message that a device can send, as the wire knows them."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from tests.isolation.worlds.people import DeviceWire
from tests.isolation.worlds.ways import Maker
from yggdrasil.wire import messages

Say = Callable[[Maker, DeviceWire], dict[str, Any]]


def _number(maker: Maker, wire: DeviceWire, kind: str) -> int:
    return int(maker.one(*wire.numbers[kind], 1, 2, 3)) if maker.chance(90) else int(maker.one(0, 987_654))


MESSAGES: dict[str, Say] = {
    "hello": lambda m, w: {"token": w.token, "device_id": m.device_id(), "proof": "A" * 86},
    "discover": lambda m, w: {"request": m.one(1, 2, 3)},
    "connect": lambda m, w: {"request": m.one(4, 5), "to": m.device_id(), "purpose": "files"},
    "allow": lambda m, w: {"ask": _number(m, w, "ask")},
    "deny": lambda m, w: {"ask": _number(m, w, "ask")},
    "credit": lambda m, w: {"link": _number(m, w, "link"), "bytes": m.one(1, 4096)},
    "action": lambda m, w: {
        "request": m.one(6, 7),
        "to": m.device_id(),
        "name": "wake",
        "deadline_ms": m.one(1000, 5000),
        "idempotency_id": m.one("i1", "i2"),
        "arguments": {"a": 1},
    },
    "action_result": lambda m, w: {"ask": _number(m, w, "ask"), "ok": True, "result": {"b": 2}},
    "disconnect": lambda m, w: {"link": _number(m, w, "link")},
    "ping": lambda m, w: {"id": m.one(1, 2)},
    "pong": lambda m, w: {"id": m.one(1, 2)},
    "accept": lambda m, w: {"link": _number(m, w, "link")},
    "busy": lambda m, w: {"link": _number(m, w, "link"), "message": ""},
    "done": lambda m, w: {
        "link": _number(m, w, "link"),
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    },
    "fault": lambda m, w: {"link": _number(m, w, "link"), "code": "x", "message": ""},
}
RISKY = frozenset(
    {"hello", "accept", "busy", "done", "fault", "credit", "allow", "deny", "action_result", "disconnect"}
)
"""Out of order they end the session: said less often."""


def message_types() -> list[str]:
    """What the wire knows."""
    return sorted(str(kind.__struct_config__.tag) for kind in typing.get_args(messages.ToServer))
