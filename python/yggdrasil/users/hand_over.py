"""Network ID hand-over: a device away from home asks, a person proves it, and a sealed parcel is given once.

The proof is a code mailed for this purpose, or a device at home that says yes. `ask` does not look whether
the address is known, and `take` counts a try in the database before it compares, as sign-in does. What is
handed over is a session of its own: it ends by itself, is seen and revoked, and cannot make what would
outlive it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from yggdrasil import audit
from yggdrasil.audit import Actor, ActorKind, Event, EventKind
from yggdrasil.db import Database, Tx
from yggdrasil.errors import CodeRejected, InvalidInput, Unauthenticated
from yggdrasil.kernel import Clock, Identity, IdSource, Network
from yggdrasil.mimir.addresses import normalise
from yggdrasil.mimir.sealing import blind_index
from yggdrasil.mimir.service import Mimir, Note
from yggdrasil.users import codes, store, store_hand_over
from yggdrasil.users.gate import Revocation
from yggdrasil.users.keys import UsersKeys
from yggdrasil.users.mailing import Postman, hand_over_code_mail, handed_over_mail
from yggdrasil.users.sessions import Sessions
from yggdrasil.users.settings import UsersSettings
from yggdrasil.users.signin import SignIn, check_name, check_recent, count_send, count_try, counted_key
from yggdrasil.users.store_hand_over import Ask, HandOver
from yggdrasil.wire import hand_over as wire
from yggdrasil.wire.proof import encode_bytes

OWNERS_TOLD_MAX: Final = 5
_log = structlog.get_logger("yggdrasil.users.hand_over")


@dataclass(frozen=True, slots=True)
class Asked:
    """An ask that was taken note of. `check`: the number that the asking device shows."""

    flow: UUID
    expires_in_seconds: int
    check: str


class HandOvers:
    """The side of the device that asks. `spread` is told what ended: gates, sockets, other nodes follow."""

    def __init__(
        self,
        database: Database,
        mimir: Mimir,
        postman: Postman,
        clock: Clock,
        ids: IdSource,
        keys: UsersKeys,
        settings: UsersSettings,
        *,
        signin: SignIn,
        sessions: Sessions,
        spread: Callable[[list[Revocation]], None],
    ) -> None:
        self._database = database
        self._mimir = mimir
        self._postman = postman
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._settings = settings
        self._signin = signin
        self._sessions = sessions
        self._spread = spread

    async def ask(
        self,
        *,
        email: str,
        device_key: bytes,
        sealing_key: bytes,
        device_name: str,
        at_seconds: int,
        proof: bytes,
    ) -> Asked:
        """Remember the wish, and mail a code after the answer, known address or not.

        Errors: InvalidInput; LimitReached, for known and unknown addresses alike.
        """
        address = normalise(email)
        name = check_name(device_name, field="device_name")
        wire.check_sealing_key(sealing_key)
        check_recent(at_seconds, self._clock, self._settings.proof_skew_seconds)
        signed = wire.ask_message(device_key, sealing_key, at_seconds, email, device_name)
        if not codes.proof_holds(device_key, proof, signed):
            raise InvalidInput(
                "proof must sign 'yggdrasil.v1 hand-over ask\\0', device_key, sealing_key, at_seconds, "
                "SHA-256(email) and SHA-256(device_name) with device_key (Ed25519)",
                field="proof",
            )
        self._signin.count_start()
        self._postman.check_room()
        now, settings = self._clock.now(), self._settings
        flow, code = self._ids.uuid(), codes.code_from(self._ids.secret(codes.CODE_SECRET_BYTES))
        expires_at = now + timedelta(seconds=settings.code_seconds)
        address_key = address_key_of(self._keys, address)
        digest = codes.hand_over_digest(self._keys.peppers[0], flow, device_key, sealing_key, code)
        ask = Ask(flow, address_key, device_key, sealing_key, digest, now)
        async with self._database.transaction(Identity()) as tx:
            counted = await counted_key(tx, address_key, device_key, own=True)
            refused, mailed = await count_send(tx, counted, address_key, device_key, now, settings)
            if refused is None:
                await store_hand_over.insert_ask(tx, ask, expires_at)
        if refused is not None:
            raise refused
        # The name is kept sealed until somebody proves that this device is theirs.
        await self._mimir.remember(flow, address, name, expires_at)
        if mailed:
            self._postman.post(hand_over_code_mail(address, code, settings.code_seconds))
        return Asked(flow, settings.code_seconds, wire.check_number(flow, device_key, sealing_key))

    async def take(self, *, flow: UUID, code: str | None, device_key: bytes, proof: bytes) -> bytes | None:
        """The sealed parcel, once: for the mailed code, or without one if a device at home said yes. None:
        nobody has said anything yet (asked without a code).

        Errors: InvalidInput for a malformed code or a proof that does not verify (no try is spent);
        CodeRejected for all else: unknown, another device's, wrong, spent, expired, over-tried, denied.
        """
        if code is not None and not codes.is_code(code):
            raise InvalidInput(f"code must be {codes.CODE_DIGITS} digits", field="code")
        if not codes.proof_holds(device_key, proof, wire.take_message(flow, code)):
            raise InvalidInput(
                "proof must sign 'yggdrasil.v1 hand-over take\\0', flow and code with device_key (Ed25519)",
                field="proof",
            )
        if code is not None:
            return await self._take_with_code(flow, code, device_key)
        now = self._clock.now()
        async with self._database.transaction(Identity()) as tx:
            ask = await store_hand_over.use_approved(tx, flow, device_key, now)
            waits = ask is None and await store_hand_over.is_waiting(
                tx, flow, device_key, self._settings.tries_max, now
            )
        if waits:
            return None
        if ask is None or ask.approved_user is None or ask.approved_network is None:
            raise CodeRejected
        note = await self._mimir.recall(flow)
        if note is None:
            raise CodeRejected
        return await self._give(ask, note, ask.approved_user, ask.approved_network)

    async def _take_with_code(self, flow: UUID, code: str, device_key: bytes) -> bytes:
        async with self._database.transaction(Identity()) as tx:
            ask = await self._evaluate(tx, flow, code, device_key)
        note = None if ask is None else await self._mimir.recall(flow)
        if ask is None or note is None:
            raise CodeRejected
        # The mailbox is proven from here on; nothing is founded for an address without an account.
        user_id = await self._mimir.find(note)
        return await self._give(ask, note, user_id, None)

    async def _evaluate(self, tx: Tx, flow: UUID, code: str, device_key: bytes) -> Ask | None:
        """Count, then compare; the ask, now spent, if the code is right. The counts are kept either way."""
        now, settings = self._clock.now(), self._settings
        ask = await store_hand_over.take_try(tx, flow, device_key, settings.tries_max, now)
        if ask is None:
            return None
        counted = await counted_key(tx, ask.address_key, device_key, own=True)
        opened = await count_try(tx, counted, now, settings)
        if opened is None:
            return None
        matches = [
            hmac.compare_digest(
                codes.hand_over_digest(pepper, flow, device_key, ask.sealing_key, code), ask.code_digest
            )
            for pepper in self._keys.peppers
        ]
        if not any(matches):
            return None
        await store_hand_over.use_ask(tx, flow, now)
        for kind, start in opened:  # the right code is no guess
            await store.uncount_one(tx, kind, counted, start)
        return ask

    async def _give(self, ask: Ask, note: Note, user_id: UUID | None, network_id: UUID | None) -> bytes:
        """Open the session and seal the parcel. `network_id`: the approval's; None: the home network."""
        account = None
        if user_id is not None:
            async with self._database.transaction(Identity(user_id=user_id)) as tx:
                account = await store.select_account(tx, user_id)
        await self._mimir.forget(ask.flow)
        if account is None or account.status != "active":
            raise CodeRejected
        network = network_id or account.home_network_id
        ends_at = self._clock.now() + timedelta(seconds=self._settings.hand_over_seconds)
        name = note.display_name or "device"
        by_device = ask.approved_device is not None
        made: list[HandOver] = []

        async def record(tx: Tx, session: store.Session) -> list[UUID]:
            approval = ask.approved_session
            if approval is not None and not await store_hand_over.hold_session(
                tx, approval, session.created_at
            ):
                raise CodeRejected  # the session that said yes has ended since
            made.append(
                HandOver(
                    hand_over_id=self._ids.uuid(),
                    user_id=session.user_id,
                    session_id=session.session_id,
                    device_key=ask.device_key,
                    device_name=name,
                    proven_by="device" if by_device else "code",
                    approved_by=ask.approved_device,
                    asked_at=ask.created_at,
                    given_at=session.created_at,
                    ends_at=ends_at,
                )
            )
            await store_hand_over.insert_hand_over(tx, network, made[0])
            await audit.record(tx, self._event(network, made[0]))
            keep = self._settings.hand_overs_max
            return await store_hand_over.end_oldest(tx, session.user_id, session.created_at, keep)

        try:
            tokens, ended = await self._sessions.open_away(account, network, ask.device_key, ends_at, record)
        except Unauthenticated:  # no member of that network any more
            raise CodeRejected from None
        self._spread(ended)
        parcel = wire.Parcel(
            hand_over_id=made[0].hand_over_id,
            network_id=tokens.network_id,
            user_id=tokens.user_id,
            session_id=tokens.session_id,
            role=tokens.role.value,
            access_token=tokens.access_token,
            expires_in_seconds=tokens.expires_in_seconds,
            refresh_token=tokens.refresh_token,
            refresh_expires_in_seconds=tokens.refresh_expires_in_seconds,
            ends_at=ends_at,
        )
        sealed = wire.seal_parcel(parcel, ask.flow, ask.device_key, ask.sealing_key)
        await self._tell(Network(network, account.user_id, tokens.role), note, made[0])
        return sealed

    def _event(self, network_id: UUID, made: HandOver) -> Event:
        return Event(
            network_id=network_id,
            event_id=self._ids.uuid(),
            at=made.given_at,
            kind=EventKind.HAND_OVER_GIVEN,
            actor=Actor(ActorKind.USER, made.user_id),
            subject="hand_over",
            subject_id=made.hand_over_id,
            user_id=made.user_id,
            detail={"session": str(made.session_id), "proven_by": made.proven_by},
        )

    async def _tell(self, scope: Network, note: Note, made: HandOver) -> None:
        """Mail to the person and to the network's owners. What cannot be told does not undo the hand-over."""
        words = {
            "device": made.device_name,
            "key": encode_bytes(made.device_key),
            "proven": "a code sent to the member" if made.proven_by == "code" else "a device at home",
            "at": _minute(made.given_at),
            "ends": _minute(made.ends_at),
            "hand_over_id": str(made.hand_over_id),
        }
        self._postman.post(handed_over_mail(note.address, own=True, words=words))
        try:
            # A member does not see who else is one; whoever answers for the identity does.
            async with self._database.transaction(Identity(scope.network_id, scope.user_id)) as tx:
                owners = await store_hand_over.select_owners(tx, scope.network_id, OWNERS_TOLD_MAX)
            for owner in owners:
                if owner != scope.user_id:
                    person = await self._mimir.read(owner)
                    self._postman.post(handed_over_mail(person.email, own=False, words=words))
        except Exception as error:
            _log.warning("owners_not_told", error=type(error).__name__)


def address_key_of(keys: UsersKeys, address: str) -> bytes:
    """The digest that an address, in its normal form, is counted and found by."""
    return blind_index(keys.counters, "address", address)


def _minute(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
