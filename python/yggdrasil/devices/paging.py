"""Opaque cursors of the lists: where the last page ended, as base64url of JSON. No I/O."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec

from yggdrasil.errors import InvalidInput

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
CURSOR_LENGTH_MAX: Final = 512


class Page(msgspec.Struct, frozen=True):
    """One page of any list; `next` is the cursor of the page after it."""

    items: list[Any]
    next: str | None


def limit_from(limit: int) -> int:
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidInput(f"limit: must be 1 to {LIMIT_MAX}", field="limit")
    return limit


def encode_cursor(*position: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, *, parts: int) -> tuple[str, ...]:
    """The position a cursor stands for. It gives no rights: rows are gated by the caller's own scope."""
    if len(cursor) <= CURSOR_LENGTH_MAX:
        try:
            raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            position = msgspec.json.decode(raw, type=tuple[str, ...])
        except (binascii.Error, ValueError):
            position = ()
        if len(position) == parts and not any("\0" in part for part in position):
            return position
    raise InvalidInput("cursor: must be the `next` of an earlier answer", field="cursor")
