"""Somebody with an account, devices and sockets, who remembers every id that an answer ever showed.

What is remembered is what is tried later: one's own ids, and the victims' by the attacker. Secrets are
remembered for one's own use and never lent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.isolation.worlds.house import Answer, Wire
from yggdrasil.devices.model import REGISTRATION_LABEL
from yggdrasil.users.codes import verify_message
from yggdrasil.wire.limits import SUBPROTOCOL
from yggdrasil.wire.proof import decode_bytes, encode_bytes, hello_payload

DEVICE_IDS = ("pc", "phone", "server.1")
"""Everybody's: names collide on purpose."""
MODELS = ("tiny", "small", "embedder")
REMEMBERED_MAX = 6
IDS = {
    "device_id": "device_id",
    "key_id": "key_id",
    "method_id": "method_id",
    "payment_id": "payment_id",
    "provider_id": "provider_id",
    "registration_id": "registration_id",
    "transaction_id": "transaction_id",
    "offer": "offer",
    "flow": "flow",
    "user_id": "user_id",
    "network_id": "network_id",
    "session_id": "session_id",
    "hand_over_id": "hand_over_id",
    "id": "any",
    "next": "cursor",
}
"""Field of an answer → what it names."""
_CODE = re.compile(r"^    (\d{8})$", re.MULTILINE)


class Person:
    """`name` is the stream its requests draw ids from. `keys_of`: whose device keys it holds."""

    def __init__(self, name: str, seed: int, keys_of: str | None = None) -> None:
        self.name = name
        self.addresses = (f"{name}@example.org", f"{name}.two@example.org")
        self.known: dict[str, list[str]] = {}
        self.access: str | None = None
        self.refresh: str | None = None
        self.api_keys: list[str] = []
        self.codes: dict[str, str] = {}
        self.flows: dict[str, tuple[int, str]] = {}
        """Flow → which of the keys asked for it, and for which address."""
        self.mailed: set[str] = set()
        self.asked: tuple[int, str] = (0, "")
        """Which key and address the last sign-in was asked with."""
        self.network_id: str | None = None
        self.token_until = 0.0
        self.mails = 0
        self.wires: list[DeviceWire] = []
        self.keys = _keys(seed, keys_of or name)
        """Of devices."""
        self.own_keys = _keys(seed, name)
        """Of sign-ins: a key at an address is one counter, and who shares it shares that."""

    @property
    def sealing_key(self) -> bytes:
        """An X25519 public key, for parcels."""
        private = X25519PrivateKey.from_private_bytes(hashlib.sha256(self.name.encode()).digest())
        return private.public_key().public_bytes_raw()

    def public(self, number: int) -> str:
        return encode_bytes(self.own_keys[number].public_key().public_bytes_raw())

    def device_key(self, number: int) -> str:
        return encode_bytes(self.keys[number].public_key().public_bytes_raw())

    def remember(self, kind: str, value: str) -> None:
        kept = self.known.setdefault(kind, [])
        if value in kept:
            kept.remove(value)
        kept.append(value)
        del kept[:-REMEMBERED_MAX]

    def saw(self, answer: Answer, now: float) -> None:
        """Take from an answer what it names."""
        try:
            document = json.loads(answer.body) if answer.body else None
        except ValueError:
            return
        self._walk(document)
        if isinstance(document, dict) and "flow" in document:
            self.flows[document["flow"]] = self.asked
        if isinstance(document, dict) and "access_token" in document:
            self.access, self.refresh = document["access_token"], document["refresh_token"]
            self.network_id = document["network_id"]
            self.token_until = now + document["expires_in_seconds"]
        if isinstance(document, dict) and "key_id" in document and "key" in document:
            self.api_keys = [*self.api_keys, document["key"]][-3:]

    def got_mail(self, to: str, text: str) -> None:
        """A code, for the newest flow of that address."""
        code = _CODE.search(text)
        flow = next(
            (f for f in reversed(self.flows) if self.flows[f][1] == to and f not in self.mailed), None
        )
        if code is not None and flow is not None:
            self.mailed.add(flow)
            self.codes[flow] = code[1]

    def ready_flow(self, address: str | None = None) -> str | None:
        """The newest flow whose code is at hand."""
        fits = (f for f in reversed(self.codes) if address is None or self.flows[f][1] == address)
        return next(fits, None)

    def _walk(self, value: Any) -> None:
        if isinstance(value, list):
            for item in value[:20]:
                self._walk(item)
        elif isinstance(value, dict):
            for name, item in value.items():
                if isinstance(item, str) and name in IDS:
                    self.remember(IDS[name], item)
                elif isinstance(item, dict | list):
                    self._walk(item)

    # ---- signatures --------------------------------------------------------------------------------------

    def registration_proof(self, number: int, device_id: str) -> str:
        network = bytes.fromhex((self.network_id or "0" * 32).replace("-", ""))
        return encode_bytes(self.keys[number].sign(REGISTRATION_LABEL + network + device_id.encode()))

    def registration(self, number: int, device_id: str) -> dict[str, Any]:
        """The body that registers a device."""
        return {
            "device_id": device_id,
            "name": "Desk",
            "world": "Alfheim",
            "device_key": self.device_key(number),
            "proof": self.registration_proof(number, device_id),
        }

    def verify_proof(self, number: int, flow: str, code: str) -> str:
        return encode_bytes(self.own_keys[number].sign(verify_message(UUID(flow), code)))


def _keys(seed: int, owner: str) -> list[Ed25519PrivateKey]:
    digests = (hashlib.sha256(f"{seed} {owner} {n}".encode()).digest() for n in range(len(DEVICE_IDS)))
    return [Ed25519PrivateKey.from_private_bytes(digest) for digest in digests]


class DeviceWire(Wire):
    """A device at its socket: says hello, answers pings, serves jobs, and does what it is told besides.

    `device_id`, `key` and `token` may be anybody's: hello is signed with them when the challenge comes.
    """

    def __init__(
        self,
        *,
        device_id: str,
        key: Ed25519PrivateKey,
        token: str,
        serves: str = "well",
        subprotocol: str = SUBPROTOCOL,
    ) -> None:
        super().__init__(_react, (subprotocol,))
        self.device_id, self.key, self.token, self.serves = device_id, key, token, serves
        self.numbers: dict[str, list[int]] = {"ask": [], "link": []}
        self.wanted: dict[int, int] = {}
        """Link → bytes of a job's body that are still to come."""
        self.kinds: dict[int, str] = {}


Reaction = Callable[[DeviceWire, dict[str, Any]], None]


def tell(wire: Wire, kind: str, **fields: Any) -> None:
    wire.say(json.dumps({"type": kind, **fields}))


def _react(wire: Wire, frame: str | bytes) -> None:
    assert isinstance(wire, DeviceWire)
    if isinstance(frame, bytes):
        link = int.from_bytes(frame[:4], "big")
        if link in wire.wanted:
            wire.wanted[link] -= len(frame) - 4
            _serve(wire, link)
        return
    message = json.loads(frame)
    for name in ("ask", "link"):
        if name in message:
            wire.numbers[name] = [*wire.numbers[name], message[name]][-4:]
    match message["type"]:
        case "challenge":
            nonce = decode_bytes(message["nonce"], 32, "nonce")
            proof = encode_bytes(wire.key.sign(hello_payload(nonce, wire.token)))
            tell(wire, "hello", token=wire.token, device_id=wire.device_id, proof=proof)
        case "ping":
            tell(wire, "pong", id=message["id"])
        case "job":
            _offered(wire, message)
        case _:
            pass


def _offered(wire: DeviceWire, job: dict[str, Any]) -> None:
    link = job["link"]
    if wire.serves == "busy":
        tell(wire, "busy", link=link, message="later")
        return
    tell(wire, "accept", link=link)
    wire.wanted[link], wire.kinds[link] = job["bytes"], job["kind"]
    _serve(wire, link)


def _serve(wire: DeviceWire, link: int) -> None:
    """Answer a job whose body is complete."""
    if wire.wanted[link] > 0:
        return
    del wire.wanted[link]
    kind = wire.kinds.pop(link)
    if wire.serves == "silent":
        return
    if wire.serves == "faulty":
        tell(wire, "fault", link=link, code="out_of_memory", message="no room")
        return
    head = link.to_bytes(4, "big")
    if kind == "embeddings":
        wire.say(head + json.dumps({"data": [{"index": 0, "embedding": [0.25, -0.5]}]}).encode())
        tell(wire, "done", link=link, usage={"prompt_tokens": 2, "completion_tokens": 0})
        return
    for delta, finish in (({"content": "one "}, None), ({"content": "two"}, None), ({}, "stop")):
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        wire.say(head + json.dumps(chunk).encode())
    tell(wire, "done", link=link, usage={"prompt_tokens": 4, "completion_tokens": 4})
