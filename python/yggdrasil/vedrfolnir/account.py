"""What an account can ask of the server: devices, keys, money, offers."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from yggdrasil.errors import Conflict, NotFound
from yggdrasil.vedrfolnir.login import ACCEPT_LABEL, Login

REGISTRATION_LABEL: Final = b"yggdrasil.v1 device\0"
PROVIDERS: Final = "/api/v1/marketplace/providers"

Audience = Literal["own", "network", "market"]
Purpose = Literal["spend", "payout", "both"]
Role = Literal["admin", "member", "guest"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model for sale: whole cents per `price_unit_tokens` (1,000 or 1,000,000), prompt and
    completion alike.
    """

    model: str
    kind: Literal["chat", "embeddings"]
    price_cents: int
    price_unit_tokens: int
    context_tokens_max: int
    supported_parameters: tuple[str, ...] = ()


def hardware() -> dict[str, Any]:
    """What this machine says of itself; nothing that names its owner."""
    facts: dict[str, Any] = {
        "cores": os.cpu_count() or 1,
        "machine": platform.machine(),
        "system": platform.system(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    return facts


class Account(Login):
    """One device's account at one server. Use as an async context manager; see `Login` for its tokens."""

    async def register_device(self, *, name: str, world: str) -> dict[str, Any]:
        """Make this device known to its network under its id and key; says so again if it is already.

        Conflict if another device has the id.
        """
        identity = self.identity
        session = await self.session()
        message = REGISTRATION_LABEL + session.network_id.bytes + identity.device_id.encode()
        body = {
            "device_id": identity.device_id,
            "name": name,
            "world": world,
            "device_key": identity.public_key(),
            "proof": identity.sign(message),
            "hardware": hardware(),
        }
        try:
            device: dict[str, Any] = await self.call("POST", "/api/v1/devices", json=body)
        except Conflict:
            device = await self.call("GET", f"/api/v1/devices/{identity.device_id}")
            if device["device_key"] != identity.public_key():
                raise Conflict(
                    f"device_id: {identity.device_id!r} is another device of this network; choose another id",
                    field="device_id",
                ) from None
        await self.change(device=UUID(device["id"]))
        return device

    async def devices(self) -> list[dict[str, Any]]:
        """Every device of the network that this account may see."""
        return await self.listed("/api/v1/devices", {"owner": "network"})

    async def create_key(self, name: str) -> dict[str, Any]:
        """A new API key: `key` is its text, shown this once."""
        made: dict[str, Any] = await self.call("POST", "/api/v1/keys", json={"name": name})
        return made

    async def keys(self) -> list[dict[str, Any]]:
        """The working keys of the caller, without their texts."""
        return await self.listed("/api/v1/keys", {})

    async def revoke_key(self, key_id: UUID) -> None:
        """From now on the key is refused."""
        await self.call("DELETE", f"/api/v1/keys/{key_id}")

    async def invite(
        self, email: str, *, name: str, role: Role = "member", expires_in_seconds: int | None = None
    ) -> dict[str, Any]:
        """Invite an address into the network; `name` is what the invited person will call it."""
        body: dict[str, Any] = {"email": email, "name": name, "role": role}
        if expires_in_seconds is not None:
            body["expires_in_seconds"] = expires_in_seconds
        made: dict[str, Any] = await self.call("POST", "/api/v1/members/invitations", json=body)
        return made

    async def accept(self, invitation: str) -> dict[str, Any]:
        """Join the network of an invitation to one's own address; then `switch` to it."""
        at = int(self._clock.now().timestamp())
        digest = hashlib.sha256(invitation.encode()).digest()
        body = {
            "invitation": invitation,
            "at_seconds": at,
            "proof": self.identity.sign(ACCEPT_LABEL + digest + at.to_bytes(8, "big")),
        }
        joined: dict[str, Any] = await self.call("POST", "/api/v1/users/me/networks", json=body)
        return joined

    async def networks(self) -> list[dict[str, Any]]:
        """The networks one is a member of, one's own first."""
        found: dict[str, list[dict[str, Any]]] = await self.call("GET", "/api/v1/users/me/networks")
        return found["items"]

    async def leave(self, network_id: UUID) -> None:
        """Stop being a member of a network."""
        await self.call("DELETE", f"/api/v1/users/me/networks/{network_id}")

    async def members(self) -> list[dict[str, Any]]:
        """The members of the network, for its owner and admins."""
        found: dict[str, list[dict[str, Any]]] = await self.call("GET", "/api/v1/members")
        return found["items"]

    async def change_member(self, user_id: UUID, role: Role) -> dict[str, Any]:
        """Give a member another role, at once."""
        changed: dict[str, Any] = await self.call("PUT", f"/api/v1/members/{user_id}", json={"role": role})
        return changed

    async def remove_member(self, user_id: UUID) -> None:
        """End a membership, at once."""
        await self.call("DELETE", f"/api/v1/members/{user_id}")

    async def add_payment_method(
        self, *, kind: str, gateway_token: str, purpose: Purpose, label: str = ""
    ) -> dict[str, Any]:
        """Add a method; it is of use once it is verified."""
        body = {
            "kind": kind,
            "gateway_token": gateway_token,
            "purpose": purpose,
            "label": label,
            "is_default": True,
        }
        method: dict[str, Any] = await self.call("POST", "/api/v1/payments/methods", json=body)
        return method

    async def verify_payment_method(self, method_id: UUID, proof: str | None = None) -> dict[str, Any]:
        """Have the payment provider check it; `hint` of the answer says what else it wants."""
        path = f"/api/v1/payments/methods/{method_id}/verify"
        method: dict[str, Any] = await self.call("POST", path, json={"proof": proof}, idempotent=True)
        return method

    async def payment_methods(self) -> list[dict[str, Any]]:
        """The network's methods."""
        return await self.listed("/api/v1/payments/methods", {})

    async def top_up(self, method_id: UUID, amount_cents: int, idempotency_key: str) -> dict[str, Any]:
        """Put money into the wallet. The same key never charges twice: a lost answer is asked for again."""
        body = {"method_id": str(method_id), "amount_cents": amount_cents, "idempotency_key": idempotency_key}
        payment: dict[str, Any] = await self.call(
            "POST", "/api/v1/payments/process", json=body, idempotent=True
        )
        return payment

    async def balance(self) -> dict[str, Any]:
        """What the network has, in micro-cents."""
        found: dict[str, Any] = await self.call("GET", "/api/v1/payments/balance")
        return found

    async def transactions(self) -> list[dict[str, Any]]:
        """The caller's trades, both sides."""
        return await self.listed("/api/v1/marketplace/transactions", {})

    async def register_provider(
        self, models: Sequence[Model], *, audience: Audience, capacity_jobs: int
    ) -> dict[str, Any]:
        """Offer models of this device, which must be connected: the server tries each new one first.

        What the device offered before is replaced.
        """
        body: dict[str, Any] = {
            "audience": audience,
            "capacity_jobs": capacity_jobs,
            "models": [
                {
                    "model": model.model,
                    "kind": model.kind,
                    "price_cents": model.price_cents,
                    "price_unit_tokens": model.price_unit_tokens,
                    "context_tokens_max": model.context_tokens_max,
                    "supported_parameters": list(model.supported_parameters),
                }
                for model in models
            ],
        }
        known = self.identity.provider
        if known is None:
            try:
                made: dict[str, Any] = await self.call(
                    "POST", f"{PROVIDERS}/register", json={"device_id": self.identity.device_id, **body}
                )
            except Conflict as conflict:
                known = await self._provider_of_this_device()
                if known is None:
                    raise conflict from None
            else:
                await self.change(provider=UUID(made["provider_id"]))
                return made
        try:
            changed: dict[str, Any] = await self.call(
                "PUT", f"{PROVIDERS}/{known}", json={**body, "status": "active"}
            )
        except NotFound:  # unregistered meanwhile
            await self.change(provider=None)
            return await self.register_provider(models, audience=audience, capacity_jobs=capacity_jobs)
        await self.change(provider=known)
        return changed

    async def _provider_of_this_device(self) -> UUID | None:
        """Found again when the state file was lost: among the caller's own offers."""
        offers = await self.listed(PROVIDERS, {})
        for provider in {offer["provider_id"] for offer in offers if offer.get("provider_id")}:
            found = await self.call("GET", f"{PROVIDERS}/{provider}")
            if found["device_id"] == self.identity.device_id:
                return UUID(provider)
        return None
