"""The vault's use cases: remember a sign-in, claim an address, read, write and erase a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from yggdrasil.db import Tx, VaultDatabase
from yggdrasil.errors import NotFound, Unavailable
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.keys import Keys
from yggdrasil.mimir import store
from yggdrasil.mimir.addresses import normalise
from yggdrasil.mimir.sealing import (
    KEY_BYTES,
    NONCE_BYTES,
    WrappingKeys,
    blind_index,
    open_sealed,
    place,
    seal,
)

EMAIL: Final = "email"
DISPLAY_NAME: Final = "display_name"
FIELDS: Final = frozenset({EMAIL, DISPLAY_NAME})
_KEY_VERSION: Final = 1
_CLAIM_TRIES_MAX: Final = 4
_SWEEP_ROWS_MAX: Final = 500


class Note(msgspec.Struct, frozen=True):
    """What a sign-in remembers until it is proven."""

    address: str
    display_name: str | None = None

    def __repr__(self) -> str:
        return "Note(sealed)"


@dataclass(frozen=True, slots=True)
class Person:
    """What the vault knows of a subject; kept out of logs by its repr."""

    subject: UUID
    email: str = field(repr=False)
    display_name: str | None = field(repr=False)


class _AddressTakenError(Exception):
    """Another claim of the same address came first; ours is rolled back."""


class Mimir:
    """Personal data, sealed. Takes and gives plain values; the database below sees none of them."""

    def __init__(self, vault: VaultDatabase, keys: Keys, clock: Clock, ids: IdSource) -> None:
        self._vault = vault
        self._keys = WrappingKeys([key.secret for key in keys.key_encryption.keys])
        # The first makes indexes; all are looked for, because an index cannot be made anew without its
        # address.
        self._index_keys = [key.derive("mimir blind index") for key in keys.blind_index.keys]
        self._clock = clock
        self._ids = ids

    # Sign-ins not yet proven

    async def remember(
        self, flow: UUID, address: str, display_name: str | None, expires_at: datetime
    ) -> None:
        """Keep the address (in its normal form) and wished name of a sign-in, sealed, until `expires_at`."""
        data_key, wrapped = self._new_key(place("flows", "wrapped_key", flow, _KEY_VERSION))
        plain = msgspec.json.encode(Note(address, display_name))
        sealed = seal(data_key, self._nonce(), place("flows", "sealed", flow, _KEY_VERSION), plain)
        async with self._vault.transaction() as tx:
            await store.insert_flow(tx, flow, wrapped, sealed, expires_at)

    async def recall(self, flow: UUID) -> Note | None:
        async with self._vault.transaction() as tx:
            row = await store.select_flow(tx, flow, self._clock.now())
        if row is None:
            return None
        data_key = self._keys.unwrap(place("flows", "wrapped_key", flow, _KEY_VERSION), row[0])
        return msgspec.json.decode(
            open_sealed(data_key, place("flows", "sealed", flow, _KEY_VERSION), row[1]), type=Note
        )

    async def forget(self, flow: UUID) -> None:
        async with self._vault.transaction() as tx:
            await store.delete_flow(tx, flow)

    # Subjects

    async def claim(self, note: Note) -> UUID:
        """The subject of a proven address: the one it has, or a new one, `pending` until `activate`.

        Safe to repeat and to race: one address has one subject, held by the only global UNIQUE there is.
        """
        address = normalise(note.address)
        indexes = [blind_index(key, "mimir address", address) for key in self._index_keys]
        for _ in range(_CLAIM_TRIES_MAX):
            now = self._clock.now()
            try:
                async with self._vault.transaction() as tx:
                    subject = await store.select_subject_of(tx, indexes)
                    if subject is None:
                        return await self._new_subject(tx, indexes[0], note, now)
                    if await store.touch_subject(tx, subject, now) is not None:
                        return subject
            except _AddressTakenError:
                continue
        raise Unavailable("the vault is busy with this address; try again")

    async def find(self, note: Note) -> UUID | None:
        """The subject of a proven address, or None; nothing is made."""
        address = normalise(note.address)
        indexes = [blind_index(key, "mimir address", address) for key in self._index_keys]
        async with self._vault.transaction() as tx:
            return await store.select_subject_of(tx, indexes)

    async def activate(self, subject: UUID) -> None:
        """The subject's account stands. Unavailable if a sweep ended the subject in between."""
        async with self._vault.transaction() as tx:
            if not await store.activate_subject(tx, subject, self._clock.now()):
                raise Unavailable("the sign-in took too long; start again")

    async def read(self, subject: UUID) -> Person:
        """NotFound if the subject is erased or never was."""
        async with self._vault.transaction() as tx:
            wrapped = await store.select_wrapped_key(tx, subject)
            rows = await store.select_fields(tx, subject)
        if wrapped is None:
            raise NotFound
        data_key = self._unwrap(subject, wrapped)
        values = {
            name: open_sealed(data_key, place("fields", name, subject, version), sealed).decode()
            for name, sealed, version in rows
        }
        return Person(subject, values[EMAIL], values.get(DISPLAY_NAME))

    async def write_display_name(self, subject: UUID, display_name: str) -> None:
        async with self._vault.transaction() as tx:
            wrapped = await store.select_wrapped_key(tx, subject, lock=True)
            if wrapped is None:
                raise NotFound
            await self._put(
                tx, subject, self._unwrap(subject, wrapped), DISPLAY_NAME, display_name, self._clock.now()
            )

    async def erase(self, subject: UUID) -> bool:
        """Destroy the subject's data key and rows. True if there was something to destroy. Safe to repeat."""
        async with self._vault.transaction() as tx:
            return await store.erase_subject(tx, subject, self._clock.now())

    # Housekeeping

    async def sweep_flows(self) -> None:
        """Delete notes of sign-ins that expired."""
        async with self._vault.transaction() as tx:
            await store.delete_expired_flows(tx, self._clock.now(), _SWEEP_ROWS_MAX)

    async def pending(self, before: datetime) -> list[UUID]:
        """Subjects that have been `pending` since before that time; at most 500."""
        async with self._vault.transaction() as tx:
            return await store.select_pending(tx, before, _SWEEP_ROWS_MAX)

    async def erase_pending(self, subject: UUID, before: datetime) -> bool:
        """Erase a subject unless it became active or was touched again since it was listed."""
        async with self._vault.transaction() as tx:
            return await store.erase_subject(tx, subject, self._clock.now(), pending_before=before)

    async def rewrap(self, limit: int = 500) -> int:
        """Wrap up to `limit` data keys anew with the current KEK. 0 when none is left: the old KEK can go."""
        async with self._vault.transaction() as tx:
            rows = await store.select_wrapped_by_others(tx, self._keys.key_id, limit)
            for subject, wrapped in rows:
                where = place("subjects", "wrapped_key", subject, _KEY_VERSION)
                again = self._keys.wrap(self._nonce(), where, self._keys.unwrap(where, wrapped))
                await store.update_wrapped_key(tx, subject, again, self._keys.key_id)
        return len(rows)

    # Inside

    async def _new_subject(self, tx: Tx, index: bytes, note: Note, now: datetime) -> UUID:
        subject = self._ids.uuid()
        data_key, wrapped = self._new_key(place("subjects", "wrapped_key", subject, _KEY_VERSION))
        await store.insert_subject(tx, subject, wrapped, self._keys.key_id, now)
        if not await store.insert_address(tx, index, subject):
            raise _AddressTakenError
        await self._put(tx, subject, data_key, EMAIL, note.address, now)
        if note.display_name is not None:
            await self._put(tx, subject, data_key, DISPLAY_NAME, note.display_name, now)
        return subject

    async def _put(
        self, tx: Tx, subject: UUID, data_key: bytes, name: str, value: str, now: datetime
    ) -> None:
        where = place("fields", name, subject, _KEY_VERSION)
        sealed = seal(data_key, self._nonce(), where, value.encode())
        await store.upsert_field(tx, subject, name, sealed, _KEY_VERSION, now)

    def _new_key(self, where: bytes) -> tuple[bytes, bytes]:
        data_key = self._ids.secret(KEY_BYTES)
        return data_key, self._keys.wrap(self._nonce(), where, data_key)

    def _unwrap(self, subject: UUID, wrapped: bytes) -> bytes:
        return self._keys.unwrap(place("subjects", "wrapped_key", subject, _KEY_VERSION), wrapped)

    def _nonce(self) -> bytes:
        return self._ids.secret(NONCE_BYTES)
