"""Network ID hand-over, seen from home: who asks, saying yes or no, what was handed over, taking it back."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from yggdrasil.audit import Event, EventKind, actor_of, record
from yggdrasil.db import Database
from yggdrasil.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from yggdrasil.kernel import Clock, Identity, IdSource, Network
from yggdrasil.mimir.addresses import normalise
from yggdrasil.mimir.service import Mimir
from yggdrasil.users import codes, store_hand_over
from yggdrasil.users.gate import Revocation
from yggdrasil.users.hand_over import address_key_of
from yggdrasil.users.keys import UsersKeys
from yggdrasil.users.sessions import Sessions
from yggdrasil.users.settings import UsersSettings
from yggdrasil.users.signin import check_recent
from yggdrasil.users.store_hand_over import HandOver, LiveSession
from yggdrasil.wire import hand_over as wire

LIST_LIMIT_MAX: Final = 100
State = Literal["open", "ended", "revoked"]


@dataclass(frozen=True, slots=True)
class OpenAsk:
    """An ask in the caller's name, as a device at home sees it: without the number to be typed."""

    flow: UUID
    device_name: str
    device_key: bytes = field(repr=False)
    asked_at: datetime
    expires_at: datetime
    approved: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A hand-over and how it stands now."""

    made: HandOver
    state: State
    last_used_at: datetime | None


class AtHome:
    """What a person does about hand-overs on a device at home. `spread` is told what ended: gates, sockets
    and other nodes follow.
    """

    def __init__(
        self,
        database: Database,
        mimir: Mimir,
        clock: Clock,
        ids: IdSource,
        keys: UsersKeys,
        settings: UsersSettings,
        *,
        sessions: Sessions,
        spread: Callable[[list[Revocation]], None],
    ) -> None:
        self._database = database
        self._mimir = mimir
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._settings = settings
        self._sessions = sessions
        self._spread = spread

    async def asks(self, scope: Network) -> list[OpenAsk]:
        """Open asks in the caller's name, newest first. Forbidden for API keys and sessions away."""
        await self.check_at_home(scope, "seeing who asks for a hand-over")
        address_key = await self._own_address_key(scope)
        async with self._database.transaction(Identity()) as tx:
            rows = await store_hand_over.asks_of_address(
                tx, address_key, self._settings.tries_max, self._clock.now(), self._settings.asks_shown_max
            )
        found = []
        for row in rows:
            note = await self._mimir.recall(row["flow"])
            if note is not None:
                name = note.display_name or "device"
                found.append(
                    OpenAsk(
                        row["flow"],
                        name,
                        row["device_key"],
                        row["created_at"],
                        row["expires_at"],
                        row["approved"],
                    )
                )
        return found

    async def approve(self, scope: Network, *, flow: UUID, check: str, at_seconds: int, proof: bytes) -> None:
        """Say yes, for the caller's network, from a device that is registered there. `check`: the number that
        the asking device shows; a wrong one is a try.

        Errors: Forbidden (an API key, a session away, a device that is not registered here), InvalidInput,
        and NotFound for all else: unknown, another person's, wrong number, spent, expired.
        """
        session = await self.session_at_home(scope, "approving a hand-over")
        check_recent(at_seconds, self._clock, self._settings.proof_skew_seconds)
        signed = wire.approve_message(flow, check, scope.network_id, at_seconds)
        if not codes.proof_holds(session.device_key, proof, signed):
            raise InvalidInput(
                "proof must sign 'yggdrasil.v1 hand-over approve\\0', flow, check, network and at_seconds "
                "with the key that this session was signed in with (Ed25519)",
                field="proof",
            )
        async with self._database.transaction(scope) as tx:
            device = await store_hand_over.device_of_key(
                tx, scope.network_id, scope.user_id, session.device_key
            )
        if device is None:
            raise Forbidden("approving a hand-over needs a device that is registered in this network")
        address_key = await self._own_address_key(scope)
        now = self._clock.now()
        async with self._database.transaction(Identity()) as tx:
            ask = await store_hand_over.take_try_at_home(tx, flow, address_key, self._settings.tries_max, now)
            right = ask is not None and hmac.compare_digest(
                check.encode(), wire.check_number(flow, ask.device_key, ask.sealing_key).encode()
            )
            if right:
                await store_hand_over.approve(
                    tx, flow, scope.user_id, scope.network_id, session.session_id, device
                )
        if not right:
            raise NotFound

    async def deny(self, scope: Network, flow: UUID) -> None:
        """End an ask in the caller's name. NotFound for all that is not open and the caller's."""
        await self.check_at_home(scope, "denying a hand-over")
        address_key = await self._own_address_key(scope)
        async with self._database.transaction(Identity()) as tx:
            if not await store_hand_over.deny(tx, flow, address_key, self._clock.now()):
                raise NotFound

    async def page(
        self, scope: Network, *, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[Shown], str | None]:
        """What was handed over, newest first, as it stands now: the caller's own; to owners and admins, all
        of the network's.
        """
        if not 1 <= limit <= LIST_LIMIT_MAX:
            raise InvalidInput(f"limit must be 1 to {LIST_LIMIT_MAX}", field="limit")
        try:
            before = None if cursor is None else UUID(hex=cursor)
        except ValueError:
            raise InvalidInput("cursor must be the `next` of an earlier answer", field="cursor") from None
        async with self._database.transaction(scope) as tx:
            rows = await store_hand_over.select_hand_overs(tx, scope.network_id, before, limit + 1)
        page = rows[:limit]
        uses: dict[UUID, datetime] = {}
        for user_id in {made.user_id for made in page}:
            sessions = [made.session_id for made in page if made.user_id == user_id]
            async with self._database.transaction(Identity(user_id=user_id)) as tx:
                uses |= await store_hand_over.last_uses(tx, sessions, self._clock.now())
        shown = [Shown(made, _state(made, uses), uses.get(made.session_id)) for made in page]
        return shown, page[-1].hand_over_id.hex if len(rows) > limit else None

    async def revoke(self, scope: Network, hand_over_id: UUID) -> None:
        """End the device's session at once, tokens and sockets too. Safe to repeat. NotFound for absent,
        foreign, and those the caller may not see; Forbidden for API keys and sessions away.
        """
        await self.check_at_home(scope, "revoking a hand-over")
        async with self._database.transaction(scope) as tx:
            made = await store_hand_over.select_hand_over(tx, scope.network_id, hand_over_id)
        if made is None:
            raise NotFound
        # First, so that a failure in between leaves what can be revoked again.
        self._spread([await self._sessions.end(made.user_id, made.session_id, "logout")])
        async with self._database.transaction(scope) as tx:
            now = self._clock.now()
            if await store_hand_over.revoke_hand_over(tx, scope.network_id, hand_over_id, scope.user_id, now):
                event = Event(
                    network_id=scope.network_id,
                    event_id=self._ids.uuid(),
                    at=now,
                    kind=EventKind.HAND_OVER_REVOKED,
                    actor=actor_of(scope),
                    subject="hand_over",
                    subject_id=hand_over_id,
                    user_id=made.user_id,
                )
                await record(tx, event)

    async def sessions(self, scope: Network) -> list[LiveSession]:
        """The caller's sessions in this network that have not ended, newest first: home and away."""
        most = self._settings.sessions_max + self._settings.hand_overs_max
        async with self._database.transaction(Identity(user_id=scope.user_id)) as tx:
            return await store_hand_over.live_sessions(
                tx, scope.network_id, scope.user_id, self._clock.now(), most
            )

    async def check_at_home(self, scope: Network, doing: str, *, but_key: bytes | None = None) -> None:
        """Forbidden for an API key, and for a session that was handed over, unless with the device key
        `but_key`. Unauthenticated for a session that ended on another node a moment ago.
        """
        if scope.session_id is None:
            raise Forbidden(f"{doing} needs a signed-in session; an API key cannot do it")
        async with self._database.transaction(Identity(user_id=scope.user_id)) as tx:
            session = await store_hand_over.session_at(tx, scope.session_id)
        if session is None:  # a token of the house itself: what is handed over has a row
            return
        if session.revoked_at is not None or session.expires_at <= self._clock.now():
            raise Unauthenticated
        if session.ends_at is not None and session.device_key != but_key:
            raise Forbidden(f"{doing} needs a device at home; this one's network was handed over to it")

    async def session_at_home(self, scope: Network, doing: str) -> LiveSession:
        """The caller's session, if it was signed in itself; errors as `check_at_home`."""
        await self.check_at_home(scope, doing)
        if scope.session_id is None:
            raise Unauthenticated
        async with self._database.transaction(Identity(user_id=scope.user_id)) as tx:
            session = await store_hand_over.live_session(tx, scope.session_id, self._clock.now())
        if session is None:
            raise Unauthenticated
        return session

    async def _own_address_key(self, scope: Network) -> bytes:
        person = await self._mimir.read(scope.user_id)
        return address_key_of(self._keys, normalise(person.email))


def _state(made: HandOver, uses: dict[UUID, datetime]) -> State:
    if made.revoked_at is not None:
        return "revoked"
    return "open" if made.session_id in uses else "ended"
