"""Network ID hand-over on a device: asking for it away from home, and deciding on it at home.

Bytes that are signed are those of `docs/protocol/hand-over.md`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from yggdrasil.errors import InvalidInput, Timeout
from yggdrasil.kernel import IdSource
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.identity import Session
from yggdrasil.wire import hand_over as wire
from yggdrasil.wire.proof import decode_bytes, encode_bytes

OPEN: Final = "/api/v1/users/hand-overs"
ASKS: Final = "/api/v1/users/me/hand-over-asks"
GIVEN: Final = "/api/v1/users/me/hand-overs"
POLL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """An ask on its way. The key that opens the parcel lives here alone, and ends with it."""

    flow: UUID
    check: str
    expires_in_seconds: int
    private: X25519PrivateKey = field(repr=False)


class HandOver(Account):
    """An account that asks to be handed a network, or decides who is."""

    # ---- away ----------------------------------------------------------------------------------------

    async def ask(self, email: str, name: str, ids: IdSource) -> Asked:
        """Have a code mailed to `email`, and the ask shown on the devices at home."""
        private = X25519PrivateKey.from_private_bytes(ids.secret(wire.SEALING_KEY_BYTES))
        sealing_key = private.public_key().public_bytes_raw()
        at = int(self._clock.now().timestamp())
        signed = wire.ask_message(self._device_key(), sealing_key, at, email, name)
        body = {
            "email": email,
            "device_key": self.identity.public_key(),
            "sealing_key": encode_bytes(sealing_key),
            "device_name": name,
            "at_seconds": at,
            "proof": self.identity.sign(signed),
        }
        made = msgspec.json.decode((await self._send("POST", f"{OPEN}/ask", json=body)).content)
        flow = UUID(made["flow"])
        # Made here too: what is shown must be of the keys that this device really sent.
        check = wire.check_number(flow, self._device_key(), sealing_key)
        await self.change(email=email)
        return Asked(flow, check, made["expires_in_seconds"], private)

    async def take(self, asked: Asked, code: str | None = None) -> Session | None:
        """The session that is handed over, kept in the file; None while nobody has said yes. CodeRejected."""
        code = None if code is None else code.strip()
        if code is not None and not (len(code) == 8 and code.isascii() and code.isdigit()):
            raise InvalidInput("code: eight digits", field="code")
        body = {
            "flow": str(asked.flow),
            "device_key": self.identity.public_key(),
            "proof": self.identity.sign(wire.take_message(asked.flow, code)),
            **({} if code is None else {"code": code}),
        }
        answer = msgspec.json.decode((await self._send("POST", f"{OPEN}/take", json=body)).content)
        if answer["state"] == "waiting":
            return None
        sealed = decode_bytes(answer["sealed"], len(answer["sealed"]) * 3 // 4, "sealed")
        parcel = wire.open_parcel(sealed, asked.flow, self._device_key(), asked.private)
        session = Session(
            user_id=parcel.user_id,
            network_id=parcel.network_id,
            session_id=parcel.session_id,
            role=parcel.role,
            refresh_token=parcel.refresh_token,
            access_token=parcel.access_token,
            access_expires_at_seconds=self._clock.now().timestamp() + parcel.expires_in_seconds,
        )
        await self.change(session=session)
        return session

    async def wait(self, asked: Asked) -> Session:
        """Until a device at home says yes. CodeRejected for a no; Timeout when the ask has expired."""
        for _ in range(int(asked.expires_in_seconds / POLL_SECONDS)):
            session = await self.take(asked)
            if session is not None:
                return session
            await asyncio.sleep(POLL_SECONDS)
        raise Timeout("nobody at home has said yes in time")

    # ---- at home -------------------------------------------------------------------------------------

    async def asks(self) -> list[dict[str, Any]]:
        """Who asks in this account's name."""
        found: list[dict[str, Any]] = (await self.call("GET", ASKS))["items"]
        return found

    async def approve(self, flow: UUID, check: str) -> None:
        """Say yes to the device that shows `check`, for this session's network."""
        session = await self.session()
        at = int(self._clock.now().timestamp())
        signed = wire.approve_message(flow, check, session.network_id, at)
        body = {"check": check, "at_seconds": at, "proof": self.identity.sign(signed)}
        await self.call("POST", f"{ASKS}/{flow}/approve", json=body)

    async def deny(self, flow: UUID) -> None:
        """Say no."""
        await self.call("DELETE", f"{ASKS}/{flow}")

    async def given(self) -> list[dict[str, Any]]:
        """What was handed over, newest first."""
        return await self.listed(GIVEN, {})

    async def revoke(self, hand_over_id: UUID) -> None:
        """Take it back: the device's session ends at once."""
        await self.call("DELETE", f"{GIVEN}/{hand_over_id}")

    def _device_key(self) -> bytes:
        return self.identity.private_key().public_key().public_bytes_raw()
