"""People with devices, and how they invite each other, over the real routes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from tests.users.conftest import Device, House

INVITATION = re.compile(r"ygi_[A-Za-z0-9_-]{86}")


@dataclass
class Person:
    """Somebody signed in; `tokens` are those of the network they are in now."""

    house: House
    email: str
    device: Device = field(default_factory=Device)
    tokens: dict[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        text: str = self.tokens["access_token"]
        return text

    @property
    def user_id(self) -> str:
        text: str = self.tokens["user_id"]
        return text

    @property
    def network_id(self) -> str:
        text: str = self.tokens["network_id"]
        return text

    async def get(self, path: str) -> httpx.Response:
        return await self.house.get(path, self.token)

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.house.post(path, body, self.token)

    async def put(self, path: str, body: Any) -> httpx.Response:
        return await self.house.put(path, body, self.token)

    async def delete(self, path: str) -> httpx.Response:
        return await self.house.delete(path, self.token)

    async def invite(self, email: str, role: str = "member", **more: Any) -> str:
        """The invitation's text, as it was mailed."""
        answer = await self.post(
            "/members/invitations", {"email": email, "role": role, "name": "Our house"} | more
        )
        assert answer.status_code == 201, answer.text
        await self.house.users.postman.drain()
        return invitation_in(self.house)

    def accept_body(self, text: str, device: Device | None = None) -> dict[str, Any]:
        at = self.house.at
        digest = hashlib.sha256(text.encode()).digest()
        message = b"yggdrasil.v1 accept\0" + digest + at.to_bytes(8, "big")
        return {"invitation": text, "at_seconds": at, "proof": (device or self.device).sign(message)}

    async def accept(self, text: str) -> httpx.Response:
        return await self.post("/users/me/networks", self.accept_body(text))

    async def switch(self, network_id: str, /, **more: Any) -> httpx.Response:
        at, token = self.house.at, self.tokens["refresh_token"]
        digest = hashlib.sha256(token.encode()).digest()
        message = b"yggdrasil.v1 switch\0" + digest + UUID(network_id).bytes + at.to_bytes(8, "big")
        body = {
            "refresh_token": token,
            "network_id": network_id,
            "at_seconds": at,
            "proof": self.device.sign(message),
        }
        return await self.house.post("/users/switch", body | more)

    async def refresh(self) -> httpx.Response:
        body = self.device.refresh_body(self.tokens["refresh_token"], self.house.at)
        return await self.house.post("/users/refresh", body)

    async def inside(self, network_id: str) -> Person:
        """The same person and device with a session in another network."""
        answer = await self.switch(network_id)
        assert answer.status_code == 200, answer.text
        return Person(self.house, self.email, self.device, answer.json())


def invitation_in(house: House) -> str:
    found = INVITATION.search(house.inbox.mails[-1].text)
    assert found is not None
    return found[0]


async def person(house: House, name: str) -> Person:
    """Somebody with a home network of their own."""
    made = Person(house, f"{name}@example.org")
    made.tokens = await house.sign_in(made.email, made.device)
    return made


async def member(owner: Person, name: str, role: str = "member") -> tuple[Person, Person]:
    """Somebody at home, and the same in the owner's network."""
    home = await person(owner.house, name)
    text = await owner.invite(home.email, role)
    answer = await home.accept(text)
    assert answer.status_code == 201, answer.text
    return home, await home.inside(owner.network_id)
