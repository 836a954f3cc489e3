"""Signing in: ask for a code, prove it. The answer never depends on whether the address has an account.

`start` does not even look: it counts, remembers and mails, and the one text fits everybody. `verify` counts
a try in the database before it compares, so that no burst of guesses is evaluated more often than the limit
says.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from yggdrasil.db import Database, Tx
from yggdrasil.errors import CodeRejected, InvalidInput, LimitReached, Unavailable
from yggdrasil.kernel import Clock, Identity, IdSource
from yggdrasil.mimir.addresses import normalise
from yggdrasil.mimir.sealing import blind_index
from yggdrasil.mimir.service import Mimir, Note
from yggdrasil.users import codes, store
from yggdrasil.users.keys import UsersKeys
from yggdrasil.users.mailing import Postman, code_mail
from yggdrasil.users.settings import DAY_SECONDS, UsersSettings

NAME_CHARS_MAX: Final = 80
_FOUND_TRIES_MAX: Final = 3
_JOINERS: Final = "\u200c\u200d"  # several scripts need them inside words


@dataclass(frozen=True, slots=True)
class Started:
    """A sign-in that was asked for."""

    flow: UUID
    expires_in_seconds: int


@dataclass(frozen=True, slots=True)
class Proven:
    """Who proved an address, with which key."""

    account: store.Account
    address_key: bytes = field(repr=False)
    device_key: bytes = field(repr=False)


def check_name(text: str, *, field: str) -> str:
    """A name for people to read: 1 to 80 characters, none of them invisible. InvalidInput names the rule."""
    name = unicodedata.normalize("NFC", text).strip()
    hidden = any(unicodedata.category(mark)[0] == "C" and mark not in _JOINERS for mark in name)
    if not 1 <= len(name) <= NAME_CHARS_MAX or hidden:
        raise InvalidInput(
            f"{field} must be 1 to {NAME_CHARS_MAX} characters without control characters", field=field
        )
    return name


class SignIn:
    """Flows, their counters and the founding of accounts."""

    def __init__(
        self,
        database: Database,
        mimir: Mimir,
        postman: Postman,
        clock: Clock,
        ids: IdSource,
        keys: UsersKeys,
        settings: UsersSettings,
    ) -> None:
        self._database = database
        self._mimir = mimir
        self._postman = postman
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._settings = settings
        self._minute_start = clock.monotonic()
        self._minute_count = 0

    async def start(
        self,
        *,
        email: str,
        device_key: bytes,
        display_name: str | None = None,
        at_seconds: int | None = None,
        proof: bytes | None = None,
    ) -> Started:
        """Remember the wish, and mail a code after the answer.

        Two limits: what one device key asks for at one address is refused beyond it; what all strangers ask
        for at one address is mailed no more, and answered as ever, or it would tell that others ask.

        Errors: InvalidInput; LimitReached, for known and unknown addresses alike.
        """
        address = normalise(email)
        name = None if display_name is None else check_name(display_name, field="display_name")
        proven = self._check_start_proof(email, device_key, at_seconds, proof)
        self.count_start()
        self._postman.check_room()
        address_key = blind_index(self._keys.counters, "address", address)
        now, settings = self._clock.now(), self._settings
        flow, code = self._ids.uuid(), codes.code_from(self._ids.secret(codes.CODE_SECRET_BYTES))
        expires_at = now + timedelta(seconds=settings.code_seconds)
        async with self._database.transaction(Identity()) as tx:
            counted = await counted_key(tx, address_key, device_key, own=proven)
            refused, mailed = await count_send(tx, counted, address_key, device_key, now, settings)
            if refused is None:
                digest = codes.code_digest(self._keys.peppers[0], flow, device_key, code)
                await store.insert_flow(tx, flow, address_key, device_key, digest, now, expires_at)
        if refused is not None:
            raise refused
        await self._mimir.remember(flow, address, name, expires_at)
        if mailed:
            self._postman.post(code_mail(address, code, settings.code_seconds))
        return Started(flow, settings.code_seconds)

    async def verify(self, *, flow: UUID, code: str, device_key: bytes, proof: bytes) -> Proven:
        """Spend the code; the account of the address, founded now if there was none.

        Errors: InvalidInput for a malformed code or a proof that does not verify (no try is spent);
        CodeRejected for all else.
        """
        if not codes.is_code(code):
            raise InvalidInput(f"code must be {codes.CODE_DIGITS} digits", field="code")
        if not codes.proof_holds(device_key, proof, codes.verify_message(flow, code)):
            raise InvalidInput(
                "proof must sign 'yggdrasil.v1 verify\\0', flow and code with device_key (Ed25519)",
                field="proof",
            )
        async with self._database.transaction(Identity()) as tx:
            address_key = await self._evaluate(tx, flow, code, device_key)
        if address_key is None:
            raise CodeRejected
        note = await self._mimir.recall(flow)
        if note is None:
            raise CodeRejected
        account = await self._account_of(note)
        await self._mimir.forget(flow)
        return Proven(account, address_key, device_key)

    async def _evaluate(self, tx: Tx, flow: UUID, code: str, device_key: bytes) -> bytes | None:
        """Count, then compare; the address key if the code is right and now spent. The counts are kept
        either way.
        """
        now, settings = self._clock.now(), self._settings
        taken = await store.take_try(tx, flow, device_key, settings.tries_max, now)
        if taken is None:
            return None
        address_key, digest = taken
        counted = await counted_key(tx, address_key, device_key, own=True)
        opened = await count_try(tx, counted, now, settings)
        if opened is None or not any(
            codes.code_matches(pepper, flow, device_key, code, digest) for pepper in self._keys.peppers
        ):
            return None
        await store.use_flow(tx, flow, now)
        for kind, start in opened:  # the right code is no guess
            await store.uncount_one(tx, kind, counted, start)
        return address_key

    async def _account_of(self, note: Note) -> store.Account:
        """The active account of a proven address. Each step may be repeated after a crash of the one
        before.
        """
        for _ in range(_FOUND_TRIES_MAX):
            subject = await self._mimir.claim(note)
            account = await self._found(subject)
            if account.status == "active":
                await self._mimir.activate(subject)
                return account
            # Deleted, and the vault does not know yet: finish that first, then the address is free.
            await self._mimir.erase(subject)
        raise Unavailable("the account is being deleted; try again", retry_after_seconds=1)

    async def _found(self, user_id: UUID) -> store.Account:
        async with self._database.transaction(Identity(user_id=user_id)) as tx:
            account = await store.select_account(tx, user_id)
        if account is not None:
            return account
        network_id = self._ids.uuid()
        async with self._database.transaction(Identity(network_id, user_id)) as tx:
            await store.found_account(tx, user_id, network_id, self._clock.now())
            account = await store.select_account(tx, user_id)
        if account is None:
            raise Unavailable("the account could not be founded; try again")
        return account

    def _check_start_proof(
        self, email: str, device_key: bytes, at_seconds: int | None, proof: bytes | None
    ) -> bool:
        if at_seconds is None and proof is None:
            return False
        if at_seconds is None or proof is None:
            raise InvalidInput("at_seconds and proof come together or not at all", field="proof")
        check_recent(at_seconds, self._clock, self._settings.proof_skew_seconds)
        if not codes.proof_holds(device_key, proof, codes.start_message(device_key, at_seconds, email)):
            raise InvalidInput(
                "proof must sign 'yggdrasil.v1 start\\0', device_key, at_seconds and SHA-256(email) with "
                "device_key (Ed25519)",
                field="proof",
            )
        return True

    def count_start(self) -> None:
        """A bound for this node as a whole: mail to ever new addresses must end somewhere."""
        moment = self._clock.monotonic()
        if moment - self._minute_start >= 60:
            self._minute_start, self._minute_count = moment, 0
        self._minute_count += 1
        if self._minute_count > self._settings.starts_per_minute_max:
            raise LimitReached("too many sign-ins at once; try again", retry_after_seconds=60)


async def counted_key(tx: Tx, address_key: bytes, device_key: bytes, *, own: bool) -> bytes:
    """Under which key to count: strangers share the address' counter, a known device has one of its own.

    `own`: the caller has proven that it holds the device key; without that, nobody may touch the
    device's counter.
    """
    known = await store.is_known_device(tx, address_key, device_key)
    if not (known and own):
        return address_key
    return blind_index(address_key, "known device", device_key.hex())


async def count_send(
    tx: Tx, counted: bytes, address_key: bytes, device_key: bytes, now: datetime, settings: UsersSettings
) -> tuple[LimitReached | None, bool]:
    """Count one more code asked for, of whatever purpose: what to raise, after the commit, if that is too
    many, and whether it may be mailed.

    Refused is what goes beyond the asker's own count at this address, that of a known device or of a device
    key that is a stranger to it. What all strangers together ask for is not mailed beyond the limit, and
    answered as ever: or whoever asks would learn that others do.
    """
    window = timedelta(seconds=settings.window_seconds)
    stranger = counted == address_key
    asker = blind_index(address_key, "asker", device_key.hex()) if stranger else counted
    count, opened = await store.count_one(tx, "send", asker, now, now - window)
    if count > settings.sends_max:
        refused = LimitReached(
            f"email: at most {settings.sends_max} codes in {settings.window_seconds} seconds",
            retry_after_seconds=max(1, int((opened + window - now).total_seconds())),
        )
        return refused, False
    if not stranger:
        return None, True
    total, _ = await store.count_one(tx, "send", address_key, now, now - window)
    return None, total <= settings.sends_max


async def count_try(
    tx: Tx, counted: bytes, now: datetime, settings: UsersSettings
) -> list[tuple[str, datetime]] | None:
    """Count one more try, of whatever purpose; what was counted, to give it back, or None if too many."""
    windows = (
        ("try", settings.window_seconds, settings.tries_max),
        ("try_day", DAY_SECONDS, settings.tries_per_day_max),
    )
    opened = []
    for kind, seconds, limit in windows:
        count, start = await store.count_one(tx, kind, counted, now, now - timedelta(seconds=seconds))
        if count > limit:
            return None
        opened.append((kind, start))
    return opened


def check_recent(at_seconds: int, clock: Clock, skew_seconds_max: int) -> None:
    """InvalidInput unless a signed time is near the server's."""
    if not codes.is_recent(at_seconds, clock.now(), skew_seconds_max):
        raise InvalidInput(
            f"at_seconds must be within {skew_seconds_max} seconds of the server's time (the Date header)",
            field="at_seconds",
        )
