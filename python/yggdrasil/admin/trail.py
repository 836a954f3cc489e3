"""A network's own audit, for those who answer for it; what the operators see of alerts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from yggdrasil.audit import EventKind
from yggdrasil.audit import store_verify as store
from yggdrasil.audit.chain import Head, Signing
from yggdrasil.db import Database, Tx
from yggdrasil.devices.paging import Page, decode_cursor, encode_cursor, limit_from
from yggdrasil.errors import Forbidden, InvalidInput
from yggdrasil.kernel import PLATFORM_NETWORK, Network, Role

ALERTS_SHOWN: Final = 10
NUMBER_MAX: Final = 2**63 - 1


class Trail:
    """What a network reads of its own chain."""

    def __init__(self, database: Database, signing: Signing) -> None:
        self._database = database
        self._signing = signing

    async def page(self, scope: Network, *, kind: str | None, limit: int, cursor: str | None) -> Page:
        """Rows of the caller's network, newest first. Forbidden for other roles than owner and admin."""
        _check_role(scope)
        limit_from(limit)
        if kind is not None and kind not in set(EventKind):
            raise InvalidInput(f"kind: must be one of {', '.join(EventKind)}", field="kind")
        before = None if cursor is None else _number(cursor)
        async with self._database.transaction(scope) as tx:
            rows = await store.select_page(tx, scope.network_id, kind, before, limit + 1)
        more = len(rows) > limit
        return Page(items=rows[:limit], next=encode_cursor(str(rows[limit - 1]["number"])) if more else None)

    async def head(self, scope: Network) -> tuple[Head | None, dict[str, bytes]]:
        """Where the caller's chain ends, signed, and the public keys (32 bytes) that sign, by their ids."""
        _check_role(scope)
        async with self._database.transaction(scope) as tx:
            found = await store.select_last_head(tx, scope.network_id)
        return found, {
            key_id: key.public_bytes(Encoding.Raw, PublicFormat.Raw)
            for key_id, key in self._signing.public.items()
        }


async def alerts(tx: Tx, now: datetime) -> dict[str, Any]:
    """For operators, under System: alerts of the last day, and the newest with the opaque id of a network."""
    kind = EventKind.UNKNOWN_ALERT
    return {
        "day": await store.count_since(tx, PLATFORM_NETWORK, kind, now - timedelta(days=1)),
        "newest": await store.select_alerts(tx, PLATFORM_NETWORK, kind, ALERTS_SHOWN),
    }


def _check_role(scope: Network) -> None:
    if scope.role not in (Role.OWNER, Role.ADMIN):
        raise Forbidden("The audit of a network needs the role owner or admin")


def _number(cursor: str) -> int:
    (text,) = decode_cursor(cursor, parts=1)
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > NUMBER_MAX:
        raise InvalidInput("cursor: must be the `next` of an earlier answer", field="cursor")
    return int(text)
