"""One of the two networks: its token, the things it owns, and what it sees of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from yggdrasil.devices.model import registration_message
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.sentinel.asking import Answer, ask
from yggdrasil.users.service import Users
from yggdrasil.wire.proof import encode_bytes

if TYPE_CHECKING:
    from litestar.types import ASGIApp

DEVICES: Final = "/api/v1/devices"
KEYS: Final = "/api/v1/keys"
TOKEN_SECONDS: Final = 240.0
"""Within the life of an access token."""
OF_THE_MOMENT: Final = ("online", "last_seen_at", "last_used_at")


class Blind(Exception):
    """A canary does not see its own things: what it does not see of the other's proves nothing."""


@dataclass
class Canary:
    """`node` names this node's things in the network, which all nodes share."""

    app: ASGIApp
    users: Users
    clock: Clock
    ids: IdSource
    network_id: UUID
    node: str
    key: Ed25519PrivateKey = field(init=False, repr=False)
    known: dict[str, str] = field(init=False, default_factory=dict)
    """Ids by what they name: `device`, `key`, and `removed device`, `removed key`."""
    _token: tuple[str, float] | None = field(init=False, default=None, repr=False)

    async def token(self) -> str:
        """An access token that holds for a while."""
        now = self.clock.monotonic()
        if self._token is None or now >= self._token[1]:
            made = await self.users.reserved_token(uuid5(self.network_id, "canary"), self.network_id)
            self._token = (made, now + TOKEN_SECONDS)
        return self._token[0]

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """As the canary."""
        raw = None if body is None else json.dumps(body).encode()
        return await ask(self.app, method, path, await self.token(), raw)

    async def settle_in(self) -> None:
        """Own a device and a key of this boot, and have owned one of each before. What an earlier boot of
        this node left is removed. Blind if any of it fails."""
        for item in await self._own(DEVICES, "device_id"):
            await self._done("DELETE", f"{DEVICES}/{item['device_id']}")
        for item in await self._own(KEYS, "name"):
            await self._done("DELETE", f"{KEYS}/{item['key_id']}")
        self.known = {
            "removed device": await self._register(),
            "removed key": await self._make_key(),
        }
        await self._done("DELETE", f"{DEVICES}/{self.known['removed device']}")
        await self._done("DELETE", f"{KEYS}/{self.known['removed key']}")
        self.known |= {"device": await self._register(), "key": await self._make_key()}

    async def view(self) -> list[Any]:
        """Its own things as it sees them, less what changes by itself. Blind if one of them is missing."""
        device = await self._done("GET", f"{DEVICES}/{self.known['device']}")
        keys = [item for item in await self._own(KEYS, "name") if item["key_id"] == self.known["key"]]
        if len(keys) != 1:
            raise Blind("A canary does not see its own key")
        return [
            {name: value for name, value in item.items() if name not in OF_THE_MOMENT}
            for item in (device, keys[0])
        ]

    async def _register(self) -> str:
        self.key = Ed25519PrivateKey.generate()
        device_id = self.fresh_device()
        message = registration_message(self.network_id, device_id)
        await self._done(
            "POST",
            DEVICES,
            {
                "device_id": device_id,
                "name": "Canary",
                "world": "Alfheim",
                "device_key": encode_bytes(self.key.public_key().public_bytes_raw()),
                "proof": encode_bytes(self.key.sign(message)),
            },
        )
        return device_id

    async def _make_key(self) -> str:
        made = await self._done("POST", KEYS, {"name": self.node})
        return str(made["key_id"])

    def fresh_device(self) -> str:
        """A device id that nobody has, of the form of ours."""
        return f"{self.node}.{self.ids.secret(6).hex()}"

    async def _own(self, path: str, name: str) -> list[dict[str, Any]]:
        """This node's items of a list, which other nodes fill too."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self._done("GET", path, query=cursor)
            found += [item for item in page["items"] if str(item[name]).startswith(self.node)]
            if page["next"] is None:
                return found
            cursor = page["next"]

    async def _done(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: str = ""
    ) -> Any:
        raw = None if body is None else json.dumps(body).encode()
        answer = await ask(
            self.app, method, path, await self.token(), raw, query=f"cursor={query}" if query else ""
        )
        if answer.status >= 400:
            raise Blind(f"A canary was refused its own: {method} answered {answer.status}")
        return answer.json()
