"""The kinds of questions whose answers are timed: each asks for what is somebody's and for what never was."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.isolation import forms
from tests.isolation.conftest import Two
from tests.isolation.equivalence import Verdict, judge
from tests.isolation.probes import PROBES, Slot
from tests.isolation.test_sockets import PROBES as MESSAGES
from yggdrasil.users.apikeys import SECRET_BYTES, ApiKey, parse
from yggdrasil.users.codes import verify_message
from yggdrasil.wire.limits import CloseCode
from yggdrasil.wire.proof import decode_bytes, encode_bytes, hello_payload

MARGIN_US: Final = 50.0
"""A round trip in a quiet local network already varies by more."""
MARGIN_SIGN_IN_US: Final = 250.0
"""Sign-in commits to the disk, whose own times vary by milliseconds."""
ANSWER_SECONDS_MAX: Final = 30.0
CLOSED: Final = frozenset({CloseCode.UNAUTHENTICATED})
PACE_SECONDS: Final = 0.021
"""Between two requests of a socket session, which may make 50 in a second."""
KNOWN: Final = "network-a@example.org"
UNKNOWN: Final = "network-q@example.org"


class Line:
    """A connection that blocks: nothing stands between the clock and the socket."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> tuple[float, int, bytes]:
        """(µs until the last byte, status, body)."""
        try:
            return self._ask(request)
        except (OSError, EOFError):
            self.close()  # It was closed while nothing was asked; the measure is taken on a new one.
            return self._ask(request)

    def _ask(self, request: bytes) -> tuple[float, int, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS_MAX)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen = b""
        began = time.perf_counter_ns()
        self._socket.sendall(request)
        while (head := seen.find(b"\r\n\r\n")) < 0 or len(seen) < head + 4 + _length(seen[:head]):
            part = self._socket.recv(65_536)
            if not part:
                raise EOFError
            seen += part
        took = (time.perf_counter_ns() - began) / 1_000
        if b"connection: close" in seen[:head].lower():
            self.close()
        return took, int(seen[9:12]), seen[head + 4 :]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def request(method: str, target: str, token: str | None, body: Any = None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    sent = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(sent)}"]
    return "\r\n".join([*lines, "", ""]).encode() + sent


Ask = Callable[[], float]
"""Asks once; µs."""


@dataclass
class Class:
    """One kind of question. `ready` makes the two askers of a block: theirs, and nobody's."""

    name: str
    ready: Callable[[], Awaitable[tuple[Ask, Ask]]]
    margin_us: float = MARGIN_US
    theirs: list[float] = field(default_factory=list)
    nobodys: list[float] = field(default_factory=list)

    def verdict(self) -> Verdict:
        return judge(self.theirs, self.nobodys, self.margin_us)


@dataclass
class Bench:
    """The server, the two networks in it, and the line to it."""

    two: Two
    line: Line
    draw: random.Random
    sockets: list[ClientConnection] = field(default_factory=list)

    def asker(self, sent: bytes, status: set[int]) -> Ask:
        """Sends these bytes each time; AssertionError for a status that is not of this class."""

        def ask() -> float:
            took, seen, body = self.line.ask(sent)
            assert seen in status, (seen, body[:300], sent[:200])
            return took

        return ask

    def same(self, theirs: bytes, nobodys: bytes) -> tuple[Ask, Ask]:
        """Both, of whatever one status they have."""
        seen = {self.line.ask(sent)[1] for sent in (theirs, nobodys)}
        assert len(seen) == 1, (seen, theirs[:200])
        return self.asker(theirs, seen), self.asker(nobodys, seen)

    # ---- what is asked ---------------------------------------------------------------------------------

    def slots(self) -> Iterable[Class]:
        """Each route × place × kind of id."""
        for (method, path), probe in PROBES.items():
            for slot in probe.slots:
                for name in slot.names:
                    yield self.slot(method, path, slot, name)

    def slot(self, method: str, path: str, slot: Slot, name: str) -> Class:
        place = slot.place

        async def ready() -> tuple[Ask, Ask]:
            token = await self.two.b.token()
            rest = str(UUID(int=self.draw.getrandbits(128)))

            def sent(value: str) -> bytes:
                target = path.replace(f"{{{place}}}", value)
                while "{" in target:
                    target = target[: target.index("{")] + rest + target[target.index("}") + 1 :]
                body = slot.body(value) if slot.body is not None else None
                return request(method, target, token, body)

            known = self.two.known[name]
            return self.same(sent(known), sent(forms.twin(known, self.draw)))

        before = [one for one in PROBES[method, path].slots if one.place == place and name in one.names]
        variant = f" ({before.index(slot) + 1})" if before[0] is not slot else ""
        return Class(f"{method} {path} {place}={name}{variant}", ready)

    def api_key(self) -> Class:
        """A key of A with another secret, and a key that never was."""

        async def ready() -> tuple[Ask, Ask]:
            key = parse(self.two.known["key_text"])
            assert key is not None
            never = (UUID(int=self.draw.getrandbits(128), version=4) for _ in range(2))
            secrets = [self.draw.randbytes(SECRET_BYTES) for _ in range(2)]
            texts = (
                ApiKey(key.network_id, key.key_id, secrets[0]).text(),
                ApiKey(next(never), next(never), secrets[1]).text(),
            )
            theirs, nobodys = (request("GET", "/api/v1/devices", text) for text in texts)
            return self.same(theirs, nobodys)

        return Class("API key", ready)

    def sign_in(self, path: str) -> Class:
        """A code for a known address, and for one that nobody has."""

        async def ready() -> tuple[Ask, Ask]:
            key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
            theirs, nobodys = (
                request("POST", path, None, {"email": email, "device_key": encode_bytes(key)})
                for email in (KNOWN, UNKNOWN)
            )
            return self.same(theirs, nobodys)

        return Class(f"POST {path} known address", ready, MARGIN_SIGN_IN_US)

    def wrong_code(self) -> Class:
        """A wrong code in a sign-in of B's own, to a known address and to one that nobody has."""

        async def ready() -> tuple[Ask, Ask]:
            private = Ed25519PrivateKey.generate()
            theirs, nobodys = (self._code(private, self._flow(email, private)) for email in (KNOWN, UNKNOWN))
            return self.same(theirs, nobodys)

        return Class("POST /api/v1/users/verify known address", ready, MARGIN_SIGN_IN_US)

    def foreign_flow(self) -> Class:
        """A sign-in that A began, and one that never was, with a proof that holds."""

        async def ready() -> tuple[Ask, Ask]:
            private = Ed25519PrivateKey.generate()
            flow = self._flow(KNOWN, Ed25519PrivateKey.generate())
            return self.same(self._code(private, flow), self._code(private, forms.twin(flow, self.draw)))

        return Class("POST /api/v1/users/verify another's flow", ready)

    def _flow(self, email: str, private: Ed25519PrivateKey) -> str:
        key = encode_bytes(private.public_key().public_bytes_raw())
        _, status, body = self.line.ask(
            request("POST", "/api/v1/users/login", None, {"email": email, "device_key": key})
        )
        assert status == 202, body
        return str(json.loads(body)["flow"])

    def _code(self, private: Ed25519PrivateKey, flow: str) -> bytes:
        code = f"{self.draw.randrange(10**8):08d}"
        body = {
            "flow": flow,
            "code": code,
            "device_key": encode_bytes(private.public_key().public_bytes_raw()),
            "proof": encode_bytes(private.sign(verify_message(UUID(flow), code))),
        }
        return request("POST", "/api/v1/users/verify", None, body)

    def message(self, kind: str) -> Class:
        """A socket's request that names A's device, which is online, and one that names none."""
        probe = MESSAGES[kind]
        assert probe is not None
        say = probe[1]

        async def ready() -> tuple[Ask, Ask]:
            token = await self.two.b.token()
            known = self.two.known["device_id"]
            if kind == "hello":
                return tuple(  # type: ignore[return-value]
                    (lambda to=to: self._hello(token, to)) for to in (known, forms.twin(known, self.draw))
                )
            for one in self.sockets:
                one.close()
            self.sockets = [self._dial(token)]
            return tuple(  # type: ignore[return-value]
                (lambda to=to: self._say(kind, say(to))) for to in (known, forms.twin(known, self.draw))
            )

        return Class(f"SOCKET {kind}", ready)

    def _say(self, kind: str, message: dict[str, Any]) -> float:
        (held,) = self.sockets
        time.sleep(PACE_SECONDS)
        text = json.dumps({"type": kind, **message})
        began = time.perf_counter_ns()
        held.send(text)
        while True:
            frame = json.loads(held.recv(ANSWER_SECONDS_MAX))
            if frame.get("request") == message["request"]:
                took = (time.perf_counter_ns() - began) / 1_000
                assert frame["type"] == "error", frame
                assert frame["code"] == "not_found", frame
                return took

    def _knock(self) -> ClientConnection:
        return connect(  # type: ignore[no-any-return]
            f"ws://127.0.0.1:{self.two.house.port}/bifrost",
            subprotocols=[Subprotocol("bifrost.v1")],
            compression=None,
            proxy=None,
            legacy=True,
        )

    def _said_hello(self, held: ClientConnection, token: str, device_id: str) -> str:
        challenge = json.loads(held.recv(ANSWER_SECONDS_MAX))
        nonce = decode_bytes(challenge["nonce"], 32, "nonce")
        proof = self.two.b.identity.private_key().sign(hello_payload(nonce, token))
        return json.dumps(
            {"type": "hello", "token": token, "device_id": device_id, "proof": encode_bytes(proof)}
        )

    def _dial(self, token: str) -> ClientConnection:
        held = self._knock()
        held.send(self._said_hello(held, token, self.two.b.identity.device_id))
        assert json.loads(held.recv(ANSWER_SECONDS_MAX))["type"] == "welcome"
        return held

    def _hello(self, token: str, device_id: str) -> float:
        with self._knock() as held:
            text = self._said_hello(held, token, device_id)
            began = time.perf_counter_ns()
            held.send(text)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    assert json.loads(held.recv(ANSWER_SECONDS_MAX))["type"] != "welcome"
            took = (time.perf_counter_ns() - began) / 1_000
            assert held.close_code in CLOSED, held.close_code
            return took

    def classes(self) -> list[Class]:
        return [
            *self.slots(),
            self.api_key(),
            self.sign_in("/api/v1/users/login"),
            self.sign_in("/api/v1/users/register"),
            self.wrong_code(),
            self.foreign_flow(),
            *(self.message(kind) for kind in ("hello", "connect", "action")),
        ]
