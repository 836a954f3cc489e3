"""What falls due: erasures, expired and old rows, and the uses of keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from yggdrasil.db import Database
from yggdrasil.kernel import Clock, Identity, System
from yggdrasil.mimir.service import Mimir
from yggdrasil.users import store, store_hand_over
from yggdrasil.users.gate import ENDED_SECONDS, Gate
from yggdrasil.users.inviting import Inviting
from yggdrasil.users.keyring import KeyRing
from yggdrasil.users.settings import DAY_SECONDS, UsersSettings

SESSION_KEPT_SECONDS: Final = 30 * DAY_SECONDS
HAND_OVER_KEPT_SECONDS: Final = 180 * DAY_SECONDS
_SWEEP_ROWS_MAX: Final = 500
_RETENTION_SECONDS: Final = 3600
_log = structlog.get_logger("yggdrasil.users")


class Housekeeping:
    """`hear` learns what ended on other nodes, so that the gate here ends it too."""

    def __init__(
        self,
        database: Database,
        mimir: Mimir,
        clock: Clock,
        settings: UsersSettings,
        *,
        gate: Gate,
        keyring: KeyRing,
        inviting: Inviting,
        hear: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._mimir = mimir
        self._clock = clock
        self._settings = settings
        self._gate = gate
        self._keyring = keyring
        self._inviting = inviting
        self._hear = hear
        self._retention_at = clock.monotonic()

    async def sweep(self) -> None:
        """Everything that falls due: call every second or so. Each step may be repeated, and none stops the
        next.

        Hear what ended on other nodes; finish erasures; end `pending` subjects; drop what has expired; note
        which keys were used.
        """
        self._gate.prune()
        steps: list[Callable[[], Awaitable[None]]] = [
            self._hear,
            self._finish_erasures,
            self._end_pending,
            self._drop_expired,
            self._keyring.note_uses,
        ]
        if self._clock.monotonic() >= self._retention_at:
            self._retention_at = self._clock.monotonic() + _RETENTION_SECONDS
            steps.append(self._drop_old)
        for step in steps:
            try:
                await step()
            except Exception as error:
                # By class and step only: what a step works on is a person.
                name = getattr(step, "__name__", "")
                _log.error("sweep_step_failed", step=name, error=type(error).__name__)

    async def _finish_erasures(self) -> None:
        async with self._database.transaction(Identity()) as tx:
            open_erasures = await store.select_open_erasures(tx, _SWEEP_ROWS_MAX)
        for user_id in open_erasures:
            await self.erase(user_id)

    async def _drop_expired(self) -> None:
        now = self._clock.now()
        await self._mimir.sweep_flows()
        async with self._database.transaction(Identity()) as tx:
            await store.delete_revocations(tx, now - timedelta(seconds=2 * ENDED_SECONDS))
            await store.delete_stale(tx, now, now - timedelta(seconds=DAY_SECONDS))
            await store_hand_over.delete_expired_asks(tx, now)

    async def _drop_old(self) -> None:
        now = self._clock.now()
        async with self._database.transaction(Identity()) as tx:
            before = now - timedelta(seconds=self._settings.known_device_seconds)
            await store.delete_unseen_devices(tx, before)
        async with self._database.transaction(System("session-retention")) as tx:
            await store.delete_old_sessions(tx, now - timedelta(seconds=SESSION_KEPT_SECONDS))
            await store_hand_over.delete_old_hand_overs(tx, now - timedelta(seconds=HAND_OVER_KEPT_SECONDS))
        await self._inviting.drop_old()

    async def _end_pending(self) -> None:
        before = self._clock.now() - timedelta(seconds=self._settings.pending_seconds)
        for subject in await self._mimir.pending(before):
            async with self._database.transaction(Identity(user_id=subject)) as tx:
                account = await store.select_account(tx, subject)
            if account is not None and account.status == "active":
                # The process died between founding and activating: the person did prove the address.
                await self._mimir.activate(subject)
            else:
                await self._mimir.erase_pending(subject, before)

    async def erase(self, user_id: UUID) -> None:
        """Take a closed person out of the vault. Errors: Unavailable; the next round tries again."""
        await self._mimir.erase(user_id)
        async with self._database.transaction(Identity(user_id=user_id)) as tx:
            await store.finish_erasure(tx, user_id, self._clock.now())
