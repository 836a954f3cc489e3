"""The numbers and close codes of Bifrost v1. The relay core holds the same ones; a test compares them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

SUBPROTOCOL: Final = "bifrost.v1"

MESSAGE_BYTES_MAX: Final = 65_536
"""Any one message, text or binary, header included."""
DATA_HEADER_BYTES: Final = 4
PAYLOAD_BYTES_MAX: Final = MESSAGE_BYTES_MAX - DATA_HEADER_BYTES
OPAQUE_BYTES_MAX: Final = 61_440
"""`arguments`, `result`, `data`: JSON that the relay carries and does not read."""

WINDOW_BYTES: Final = 262_144
"""What a sender may have in flight on one link, in one direction, before the receiver grants more."""
FRAME_COST_BYTES_MIN: Final = 64
"""The least a data frame costs, so that a window bounds the number of frames too."""
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""The body of one job."""

NONCE_BYTES: Final = 32
TOKEN_BYTES_MAX: Final = 4_096
NAME_CHARS_MAX: Final = 64
"""device_id, purpose, the name of an action or event, idempotency_id, job kind."""
TEXT_CHARS_MAX: Final = 256
"""Human-readable messages, model names."""
NUMBER_MAX: Final = 2**32 - 1
DEADLINE_MS_MAX: Final = 600_000

HELLO_SECONDS: Final = 5
HEARTBEAT_SECONDS: Final = 25
PONG_SECONDS: Final = 10


def frame_cost(payload_bytes: int) -> int:
    """What a data frame takes from its link's credit: its whole length, at least `FRAME_COST_BYTES_MIN`."""
    return max(payload_bytes + DATA_HEADER_BYTES, FRAME_COST_BYTES_MIN)


class CloseCode(IntEnum):
    """Why a session ended. 4000-4499: dial again, with back-off. 4500-4999: final, the same dial would fail
    again.
    """

    GOING_AWAY = 4000
    HEARTBEAT = 4001
    SLOW = 4002
    FLOOD = 4003
    HELLO_TIMEOUT = 4004
    UNAVAILABLE = 4005
    INTERNAL = 4006
    FULL = 4007
    PROTOCOL = 4500
    OUT_OF_ORDER = 4501
    TOO_LARGE = 4502
    CREDIT = 4503
    LINK = 4504
    UNAUTHENTICATED = 4505
    REVOKED = 4506
    REPLACED = 4507
    SUBPROTOCOL = 4508


def may_reconnect(code: int) -> bool:
    """The rule of close codes. Codes outside 4000-4999 come from the transport: dial again."""
    return not 4500 <= code <= 4999
