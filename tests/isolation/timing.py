"""Whether the time of an answer tells what the answer hides: `python -m tests.isolation.timing --pairs 2000`.

A real server on loopback is asked in turns (ABBA, the side that begins drawn by chance) for what is
somebody's and for what never was: every route × place of `probes.PROBES`, API keys, sockets, and sign-in with
an address that is known and one that is not. Prints a line for each class, then the verdicts as JSON. Ends
with 0 if all are equivalent, with 1 if one is shown to differ, with 2 if the time was too short to tell: the
next run goes on from there. `--delay-us` plants a leak in one class that must then be found.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.conftest import make_directory
from tests.isolation import forms
from tests.isolation.conftest import Two, open_two
from tests.isolation.equivalence import BLOCK_PAIRS, BLOCKS_MIN, Verdict, judge
from tests.isolation.planted import ROOT, digest_of
from tests.isolation.probes import PROBES, Slot
from tests.isolation.test_sockets import PROBES as MESSAGES
from tests.isolation.timed_server import DELAY
from tests.live.house import House
from yggdrasil.demo.mail import CodeMail
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
KEPT: Final = Path("build/isolation/timing.json")
OUT_OF_TIME: Final = 2


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


def block(theirs: Ask, nobodys: Ask, pairs: int, draw: random.Random) -> tuple[list[float], list[float]]:
    """`pairs` of each (even), in turns of ABBA or BAAB, so that neither side follows the other more often."""
    found: tuple[list[float], list[float]] = ([], [])
    for ask in (theirs, nobodys, nobodys, theirs):
        ask()  # The first answer of a block opens what the others find open.
    for _ in range(pairs // 2):
        first = draw.randrange(2)
        for side in (first, 1 - first, 1 - first, first):
            found[side].append((theirs, nobodys)[side]())
    return found


def measure(
    bench: Bench, classes: list[Class], pairs: int, ends: float, loop: asyncio.AbstractEventLoop
) -> None:
    """Round after round, each class a block; those that are decided give their time to the others."""
    while time.monotonic() < ends:
        open_ones = [one for one in classes if len(one.theirs) < pairs and not decided(one, pairs)]
        if not open_ones:
            return
        for one in bench.draw.sample(open_ones, len(open_ones)):
            if time.monotonic() >= ends:
                return
            theirs, nobodys = asyncio.run_coroutine_threadsafe(one.ready(), loop).result()
            found = block(theirs, nobodys, BLOCK_PAIRS, bench.draw)
            one.theirs += found[0]
            one.nobodys += found[1]


def decided(one: Class, pairs: int) -> bool:
    """Half of the pairs at least are taken, so that nobody stops at the first lucky look."""
    return len(one.theirs) >= max(pairs // 2, BLOCKS_MIN * BLOCK_PAIRS) and one.verdict().equivalent


@asynccontextmanager
async def open_bench(seed: int, delay_us: float = 0.0) -> AsyncIterator[Bench]:
    """A server of its own process and disk, and A, B and C."""
    place = make_directory()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        mail = await stack.enter_async_context(CodeMail())
        more = {DELAY: str(delay_us)} if delay_us else {}
        house = House(place, mail, more=more, command=("-m", "tests.isolation.timed_server"))
        await house.start()
        stack.callback(house.stop)
        two = await stack.enter_async_context(open_two(house))
        (house.data_dir / "measuring").touch()
        line = Line(house.port)
        stack.callback(line.close)
        bench = Bench(two, line, random.Random(seed))
        yield bench
        for held in bench.sockets:
            held.close()


async def run(
    pairs: int, seconds: float, seed: int, only: str = "", delay_us: float = 0.0, kept: Path | None = None
) -> list[dict[str, Any]]:
    """The verdict of each class whose name holds `only`. `kept`: where the times of earlier runs lie."""
    async with open_bench(seed, delay_us) as bench:
        classes = bench.classes()
        if kept is not None:
            _recall(classes, kept)
        asked = [one for one in classes if only in one.name]
        ends = time.monotonic() + seconds
        await asyncio.to_thread(measure, bench, asked, pairs, ends, asyncio.get_running_loop())
        if kept is not None:
            _keep(classes, kept)
    return [_told(one) for one in asked]


def _recall(classes: list[Class], kept: Path) -> None:
    """Blocks of earlier runs with the same sources count: each compares its own neighbours."""
    earlier = json.loads(kept.read_text()) if kept.exists() else {}
    if earlier.get("tree") != digest_of(ROOT):
        return
    for one in classes:
        one.theirs, one.nobodys = earlier["times"].get(one.name, ([], []))


def _keep(classes: list[Class], kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    times = {one.name: (one.theirs, one.nobodys) for one in classes}
    kept.write_text(json.dumps({"tree": digest_of(ROOT), "times": times}))


def _told(one: Class) -> dict[str, Any]:
    if len(one.theirs) < BLOCKS_MIN * BLOCK_PAIRS:
        return {"class": one.name, "pairs": len(one.theirs), "equivalent": False, "differs": False}
    found = one.verdict()
    return {
        "class": one.name,
        "pairs": found.pairs,
        "t": round(found.t, 2),
        "welch_t": round(found.welch_t, 2),
        "difference_us": round(found.difference_us, 1),
        "low_us": round(found.low_us, 1),
        "high_us": round(found.high_us, 1),
        "margin_us": found.margin_us,
        "equivalent": found.equivalent,
        "differs": found.differs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2_000, help="of each class at most")
    parser.add_argument("--seconds", type=float, default=1_800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="classes whose name holds this")
    parser.add_argument(
        "--delay-us", type=float, default=0.0, help="the planted leak, of one device's reading"
    )
    asked = parser.parse_args()
    kept = None if asked.delay_us else KEPT
    found = asyncio.run(run(asked.pairs, asked.seconds, asked.seed, asked.only, asked.delay_us, kept))
    for one in found:
        word = "equivalent" if one["equivalent"] else "DIFFERS" if one["differs"] else "undecided"
        line = (
            f"|t| {abs(one['t']):6.2f}, Welch's {abs(one['welch_t']):5.2f}  {one['difference_us']:8.1f} µs"
            if "t" in one
            else ""
        )
        print(f"{word:10}  {one['pairs']:6} pairs  {line}  {one['class']}")
    print(json.dumps({"timing": found, "seed": asked.seed}))
    if any(one["differs"] for one in found):
        return 1
    return 0 if found and all(one["equivalent"] for one in found) else OUT_OF_TIME


if __name__ == "__main__":
    sys.exit(main())
