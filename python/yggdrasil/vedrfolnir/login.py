"""Signing in by e-mailed code, keeping the session fresh, and authenticated REST calls.

Bytes that are signed are those of `docs/protocol/sign-in.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import httpx
import msgspec

from yggdrasil import errors
from yggdrasil.errors import InvalidInput, Timeout, Unauthenticated, Unavailable, YggdrasilError
from yggdrasil.kernel import Clock, IdSource, SystemClock, SystemIds
from yggdrasil.vedrfolnir.address import is_loopback
from yggdrasil.vedrfolnir.backoff import delay_seconds
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile, Session

START_LABEL: Final = b"yggdrasil.v1 start\0"
VERIFY_LABEL: Final = b"yggdrasil.v1 verify\0"
REFRESH_LABEL: Final = b"yggdrasil.v1 refresh\0"
SWITCH_LABEL: Final = b"yggdrasil.v1 switch\0"
ACCEPT_LABEL: Final = b"yggdrasil.v1 accept\0"
FRESH_SECONDS_MIN: Final = 30
"""A token with less than this left is renewed before it is used."""

TRIES_MAX: Final = 4
PAGE_ITEMS: Final = 100
ITEMS_MAX: Final = 10_000
NOT_SIGNED_IN: Final = "not signed in; run: yggdrasil pair"
RETRY_AFTER_SECONDS_MAX: Final = 30
TIMEOUT: Final = httpx.Timeout(30, connect=5)


def _by_code(kind: type[YggdrasilError]) -> dict[str, type[YggdrasilError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found |= {code: made for code, made in _by_code(child).items() if code not in found}
    return found


# A broken protocol is no answer of the REST door, and its exception is made differently.
_ERRORS: Final = {
    code: kind for code, kind in _by_code(YggdrasilError).items() if kind is not errors.ProtocolViolation
}


class _Tokens(msgspec.Struct):
    access_token: str
    expires_in_seconds: float
    refresh_token: str
    user_id: UUID
    network_id: UUID
    session_id: UUID
    role: str


class Flow(msgspec.Struct, frozen=True):
    """A started sign-in, waiting for its code."""

    flow: UUID
    expires_in_seconds: int


def problem(response: httpx.Response) -> YggdrasilError:
    """The answer's problem document as the exception of its code; without one, as the status says."""
    try:
        body: Any = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict):
        body = {}
    code, detail, field = (body.get(name) for name in ("code", "detail", "field"))
    wait = response.headers.get("retry-after", "")
    kind = _ERRORS.get(code) if isinstance(code, str) else None
    if kind is None:
        kind = Unavailable if response.status_code >= 500 else YggdrasilError
    return kind(
        detail if isinstance(detail, str) else f"the server answered {response.status_code}",
        field=field if isinstance(field, str) else None,
        retry_after_seconds=int(wait) if re.fullmatch("[0-9]{1,6}", wait) else None,
    )


class Login:
    """One device's session at one server. Use as an async context manager.

    Tokens are renewed by themselves. Calls that may be repeated (GET, PUT, DELETE, `idempotent=True`)
    are, over lost connections and passing refusals: four tries in all. Others are sent once: the first
    may have counted.
    """

    def __init__(
        self,
        file: IdentityFile,
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._file = file
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds()
        identity = file.load()
        if identity is None:
            raise Unauthenticated(f"{file.path}: this device is not paired; run: yggdrasil pair")
        self._identity = identity
        self._http = http or httpx.AsyncClient(
            timeout=TIMEOUT, follow_redirects=False, trust_env=not is_loopback(identity.server_url)
        )
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @property
    def identity(self) -> Identity:
        """The device's state as last read or written."""
        return self._identity

    # ---- sign-in -------------------------------------------------------------------------------------

    async def begin(self, email: str, display_name: str | None = None) -> Flow:
        """Have a code sent to `email`; the same for new and known addresses.

        A device that has been signed in before says so under its key: strangers who ask for codes in its
        owner's name then use up their own tries, not the owner's.
        """
        body: dict[str, Any] = {"email": email, "device_key": self._identity.public_key()}
        if display_name is not None:
            body["display_name"] = display_name
        path = "/api/v1/users/register" if display_name is not None else "/api/v1/users/login"
        known = self._known_device(email) if self._identity.session is not None else {}
        try:
            answer = await self._send("POST", path, json={**body, **known})
        except InvalidInput as refused:
            if not known or refused.field != "at_seconds":
                raise
            answer = await self._send("POST", path, json=body)  # this device's clock is wrong: as a stranger
        flow = msgspec.json.decode(answer.content, type=Flow)
        await self.change(email=email)
        return flow

    def _known_device(self, email: str) -> dict[str, Any]:
        at = int(self._clock.now().timestamp())
        key = self._identity.private_key().public_key().public_bytes_raw()
        signed = START_LABEL + key + at.to_bytes(8, "big") + hashlib.sha256(email.encode()).digest()
        return {"at_seconds": at, "proof": self._identity.sign(signed)}

    async def verify(self, flow: Flow, code: str) -> Session:
        """Exchange the e-mailed code for a session, which is kept in the file. CodeRejected if it is not
        valid.
        """
        code = code.strip()
        if len(code) != 8 or not (code.isascii() and code.isdigit()):
            raise InvalidInput("code: eight digits", field="code")
        body = {
            "flow": str(flow.flow),
            "code": code,
            "device_key": self._identity.public_key(),
            "proof": self._identity.sign(VERIFY_LABEL + flow.flow.bytes + code.encode()),
        }
        answer = await self._send("POST", "/api/v1/users/verify", json=body)
        session = self._session(answer)
        await self.change(session=session)
        return session

    async def token(self, *, renew: bool = False) -> str:
        """An access token good for 30 seconds or more; `renew` asks for another one than now held.

        Unauthenticated if the session ended.
        """
        before = self._identity.session
        async with self._renewing:
            session = self._identity.session
            if session is not None and self._fresh(session) and not (renew and session is before):
                return session.access_token
            loop = asyncio.get_running_loop()
            return (await asyncio.to_thread(self._renew_locked, loop, before, renew)).access_token

    def _renew_locked(self, loop: asyncio.AbstractEventLoop, before: Session | None, renew: bool) -> Session:
        """In a thread, for the file's lock blocks. Another process may have renewed: its token is newer."""
        with self._file.locked():
            self._identity = self._file.load() or self._identity
            session = self._identity.session
            if session is None:
                raise Unauthenticated(NOT_SIGNED_IN)
            known = before is not None and session.refresh_token == before.refresh_token
            if not self._fresh(session) or (renew and known):
                session = asyncio.run_coroutine_threadsafe(self._refresh(session), loop).result()
                self._identity = msgspec.structs.replace(self._identity, session=session)
                self._file.save(self._identity)
            return session

    async def _refresh(self, session: Session) -> Session:
        """Repeating is safe: the successor of a refresh token is always the same."""
        for attempt in range(TRIES_MAX):
            at = int(self._clock.now().timestamp())
            digest = hashlib.sha256(session.refresh_token.encode()).digest()
            body = {
                "refresh_token": session.refresh_token,
                "at_seconds": at,
                "proof": self._identity.sign(REFRESH_LABEL + digest + at.to_bytes(8, "big")),
            }
            try:
                return self._session(await self._send("POST", "/api/v1/users/refresh", json=body))
            except (Unavailable, Timeout) as error:
                if attempt + 1 == TRIES_MAX:
                    raise
                await self._wait(attempt, error)
        raise AssertionError("unreachable")

    async def switch(self, network_id: UUID) -> Session:
        """Be in another network of one's own from now on: with a session of that network, in which the device
        is not registered yet. The session until now is ended. NotFound for a network one is no member of.
        """
        before = await self.session()
        at = int(self._clock.now().timestamp())
        digest = hashlib.sha256(before.refresh_token.encode()).digest()
        body = {
            "refresh_token": before.refresh_token,
            "network_id": str(network_id),
            "at_seconds": at,
            "proof": self._identity.sign(SWITCH_LABEL + digest + network_id.bytes + at.to_bytes(8, "big")),
        }
        session = self._session(await self._send("POST", "/api/v1/users/switch", json=body))
        await self.change(session=session, device=None, provider=None)
        # It would end by itself; that it could not be ended now is no reason not to go.
        with contextlib.suppress(YggdrasilError):
            await self._send("POST", "/api/v1/users/logout", token=before.access_token)
        return session

    def _fresh(self, session: Session) -> bool:
        return session.access_expires_at_seconds - self._clock.now().timestamp() > FRESH_SECONDS_MIN

    def _session(self, answer: httpx.Response) -> Session:
        made = msgspec.json.decode(answer.content, type=_Tokens)
        return Session(
            user_id=made.user_id,
            network_id=made.network_id,
            session_id=made.session_id,
            role=made.role,
            refresh_token=made.refresh_token,
            access_token=made.access_token,
            access_expires_at_seconds=self._clock.now().timestamp() + made.expires_in_seconds,
        )

    async def change(self, **fields: Any) -> None:
        """Set fields of the identity, in memory and in its file."""

        def change() -> None:
            with self._file.locked():
                self._identity = msgspec.structs.replace(self._file.load() or self._identity, **fields)
                self._file.save(self._identity)

        await asyncio.to_thread(change)

    # ---- calls ---------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """One authenticated call; the decoded answer, or the exception of its error code."""
        repeat = method in ("GET", "PUT", "DELETE") if idempotent is None else idempotent
        renew = False
        for attempt in range(TRIES_MAX):
            token = await self.token(renew=renew)
            try:
                answer = await self._send(method, path, json=json, params=params, token=token)
            except Unauthenticated:
                # Once: a token revoked or expired on the way; a second refusal is an answer.
                if renew:
                    raise
                renew = True
            except (Unavailable, Timeout, errors.LimitReached, errors.NoProvider) as error:
                if not repeat or attempt + 1 == TRIES_MAX:
                    raise
                await self._wait(attempt, error)
            else:
                return msgspec.json.decode(answer.content) if answer.content else None
        raise AssertionError("unreachable")

    async def listed(self, path: str, params: Mapping[str, str | int]) -> list[dict[str, Any]]:
        """All items of a paged list, at most 10,000."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(items) < ITEMS_MAX:
            page = await self.call(
                "GET", path, params={**params, "limit": PAGE_ITEMS, **({"cursor": cursor} if cursor else {})}
            )
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
        return items

    async def session(self) -> Session:
        """The session, signed in. Unauthenticated if there is none."""
        await self.token()
        session = self._identity.session
        if session is None:
            raise Unauthenticated(NOT_SIGNED_IN)
        return session

    async def _wait(self, attempt: int, error: YggdrasilError) -> None:
        least = min(error.retry_after_seconds or 0, RETRY_AFTER_SECONDS_MAX)
        chance = int.from_bytes(self._ids.secret(6), "big") / 2**48
        await asyncio.sleep(delay_seconds(attempt, chance, least_seconds=least))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        token: str | None = None,
    ) -> httpx.Response:
        headers = {"accept": "application/json"}
        content: bytes | None = None
        if json is not None:
            headers["content-type"] = "application/json"
            content = msgspec.json.encode(json)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        url = self._identity.server_url.rstrip("/") + path
        try:
            answer = await self._http.request(method, url, content=content, headers=headers, params=params)
        except httpx.TimeoutException as error:
            raise Timeout(f"{self._identity.server_url}: no answer in time") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unavailable(f"{self._identity.server_url}: {error}") from error
        if answer.is_success:
            return answer
        raise problem(answer)
