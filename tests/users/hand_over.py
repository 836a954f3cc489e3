"""A device away from home, as docs/protocol/hand-over.md describes it; shares no code with the server."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.users.conftest import Device, House, code_in
from yggdrasil.devices import store as device_store
from yggdrasil.devices.model import StoredDevice
from yggdrasil.kernel import Network, Role
from yggdrasil.wire.proof import decode_bytes, encode_bytes


def flow_bytes(flow: str) -> bytes:
    return bytes.fromhex(flow.replace("-", ""))


def hpke_open(sealed: bytes, private: X25519PrivateKey, info: bytes) -> bytes:
    """RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, written out."""

    def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256).digest()

    def expand(suite: bytes, prk: bytes, label: bytes, said: bytes, length: int) -> bytes:
        text = length.to_bytes(2) + b"HPKE-v1" + suite + label + said
        return hmac.new(prk, text + b"\x01", hashlib.sha256).digest()[:length]

    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    enc, ciphertext = sealed[:32], sealed[32:]
    secret = private.exchange(X25519PublicKey.from_public_bytes(enc))
    prk = extract(kem, b"", b"eae_prk", secret)
    shared = expand(kem, prk, b"shared_secret", enc + private.public_key().public_bytes_raw(), 32)
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    main = extract(suite, shared, b"secret", b"")
    key, nonce = expand(suite, main, b"key", context, 32), expand(suite, main, b"base_nonce", context, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, b"")


@dataclass
class Away(Device):
    """A device that asks for a network."""

    sealing: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)

    @property
    def sealing_key(self) -> bytes:
        return self.sealing.public_key().public_bytes_raw()

    def ask_body(self, email: str, at_seconds: int, name: str = "hotel tablet") -> dict[str, Any]:
        said = hashlib.sha256(email.encode()).digest() + hashlib.sha256(name.encode()).digest()
        message = (
            b"yggdrasil.v1 hand-over ask\0"
            + self.key
            + self.sealing_key
            + at_seconds.to_bytes(8, "big")
            + said
        )
        return {
            "email": email,
            "device_key": self.key_text,
            "sealing_key": encode_bytes(self.sealing_key),
            "device_name": name,
            "at_seconds": at_seconds,
            "proof": self.sign(message),
        }

    def take_body(self, flow: str, code: str | None = None) -> dict[str, Any]:
        message = b"yggdrasil.v1 hand-over take\0" + flow_bytes(flow) + (code or "").encode()
        body = {"flow": flow, "device_key": self.key_text, "proof": self.sign(message)}
        return body if code is None else {**body, "code": code}

    def open(self, flow: str, sealed: str) -> dict[str, Any]:
        raw = decode_bytes(sealed, len(sealed) * 3 // 4, "sealed")
        info = b"yggdrasil.v1 hand-over parcel\0" + flow_bytes(flow) + self.key + self.sealing_key
        found: dict[str, Any] = json.loads(hpke_open(raw, self.sealing, info))
        return found

    def opens(self, flow: str, sealed: str) -> bool:
        try:
            self.open(flow, sealed)
        except InvalidTag:
            return False
        return True

    async def ask(self, house: House, email: str) -> tuple[dict[str, Any], str]:
        """The answer and the mailed code."""
        before = len(house.inbox.mails)
        answer = await house.post("/users/hand-overs/ask", self.ask_body(email, house.at))
        assert answer.status_code == 202, answer.text
        await house.users.postman.drain()
        assert len(house.inbox.mails) == before + 1
        return answer.json(), code_in(house.inbox.mails[-1])

    async def take(self, house: House, flow: str, code: str | None = None) -> httpx.Response:
        answer = await house.post("/users/hand-overs/take", self.take_body(flow, code))
        await house.users.postman.drain()
        return answer

    async def handed(self, house: House, email: str) -> dict[str, Any]:
        """The parcel, proven by the mailed code."""
        asked, code = await self.ask(house, email)
        answer = await self.take(house, asked["flow"], code)
        assert answer.status_code == 200, answer.text
        return self.open(asked["flow"], answer.json()["sealed"])


def approve_body(home: Device, flow: str, check: str, network_id: str, at_seconds: int) -> dict[str, Any]:
    message = (
        b"yggdrasil.v1 hand-over approve\0"
        + flow_bytes(flow)
        + check.encode()
        + flow_bytes(network_id)
        + at_seconds.to_bytes(8, "big")
    )
    return {"check": check, "at_seconds": at_seconds, "proof": home.sign(message)}


async def register(house: House, tokens: dict[str, Any], device: Device, name: str = "home") -> UUID:
    """The device as one of the network's."""
    scope = Network(UUID(tokens["network_id"]), UUID(tokens["user_id"]), Role(tokens["role"]))
    stored = StoredDevice(
        network_id=scope.network_id,
        id=house.ids.uuid(),
        device_id=name,
        user_id=scope.user_id,
        name=name,
        world="alfheim",
        capabilities={},
        hardware={},
        device_key=device.key,
        registered_at=house.clock.now(),
        last_seen_at=None,
    )
    async with house.database.transaction(scope) as tx:
        await device_store.insert(tx, stored, capabilities="{}", hardware="{}")
    return stored.id
