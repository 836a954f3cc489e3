"""What the hub and its users pass to each other, and the check of a `hello`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from yggdrasil.errors import InvalidInput, Unauthenticated
from yggdrasil.wire import proof


@dataclass(frozen=True, slots=True)
class Hello:
    """What a device claims. `proof` as sent (base64url), `nonce` the 32 bytes it must cover."""

    token: str
    device_id: str
    proof: str
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """Who a session speaks for. `device` is the internal id, `device_id` the device's name in its network."""

    network_id: UUID
    user_id: UUID
    device: UUID
    device_id: str
    session_id: UUID | None = None
    key_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What a device is to compute. `body`: at most 16 MiB; `deadline_ms`: from now, at most 600,000."""

    job_id: UUID
    kind: str
    model: str
    body: bytes
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The device took the job."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Last: the device cannot take it now."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class Chunks:
    """Payloads in order, at least one; each is what the device sent as one frame."""

    parts: list[bytes]


@dataclass(frozen=True, slots=True)
class Done:
    """Last: complete. `usage` is the device's claim: prompt_tokens, completion_tokens."""

    usage: dict[str, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """Last: failed. `lost` (socket gone) and `timeout` are the relay's codes, all others the device's own."""

    code: str
    message: str = ""


JobEvent = Accepted | Busy | Chunks | Done | Fault


@dataclass(frozen=True, slots=True)
class HubLimits:
    """Settings of the relay; defaults as on the protocol's page. Counts and bytes are per session."""

    sessions_max: int = 100_000
    links_max: int = 64
    connects_max: int = 16
    actions_max: int = 32
    asks_max: int = 64
    requests_per_second: int = 50
    requests_burst: int = 100
    messages_per_second: int = 2_000
    messages_burst: int = 4_000
    control_bytes_max: int = 256 * 1024
    data_bytes_max: int = 4 * 1024 * 1024
    hello_ms: int = 5_000
    authenticate_ms: int = 10_000
    heartbeat_ms: int = 25_000
    pong_ms: int = 10_000
    stall_ms: int = 5_000
    consent_ms: int = 30_000
    accept_ms: int = 10_000

    def settings(self) -> dict[str, int]:
        """For the core; it checks them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def verify_hello(public_key: bytes, hello: Hello) -> None:
    """Check that the holder of the Ed25519 key (32 bytes) signed this hello; `Unauthenticated` otherwise."""
    try:
        signature = proof.decode_bytes(hello.proof, proof.SIGNATURE_BYTES, "proof")
        payload = proof.hello_payload(hello.nonce, hello.token)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, payload)
    except (InvalidSignature, InvalidInput, ValueError):
        raise Unauthenticated("hello: the proof is not valid") from None
