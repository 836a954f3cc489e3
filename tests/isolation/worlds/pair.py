"""Two worlds in lockstep: the same inputs of one attacker, and whatever else goes on in each of them.

The second world is asked first, because there is somebody whose ids can be guessed; the first then gets the
very same bytes. After each input everything the attacker can observe is compared: answers with status,
headers, body and virtual time; the frames and close codes of its sockets in their order; mails to its
addresses.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.isolation.worlds.house import Answer, Ask, House
from tests.isolation.worlds.inputs import ATTACKER, Asking, HangingUp, Input, Opening, Saying, Waiting
from tests.isolation.worlds.parts import NEVER
from tests.isolation.worlds.people import DEVICE_IDS, DeviceWire, Person
from tests.isolation.worlds.says import MESSAGES
from tests.isolation.worlds.ways import Maker, Way, ways_of
from yggdrasil.wire.limits import SUBPROTOCOL

SIDES = ("alone", "crowded")
SOCKETS_MAX = 3
SHOWN_CHARS_MAX = 4_000
_SEALED = re.compile(rb'"sealed":"([A-Za-z0-9_-]+)"')
_CHAINED = re.compile(rb'("(?:event_id|previous_hash|hash|signature)":")([0-9a-f-]{36,128})')
_JOB = re.compile(r'^\{"type":"job","link":\d+,"job":"([0-9a-f-]{36})"')


@dataclass
class Side:
    """One world, and the attacker in it."""

    house: House
    attacker: Person
    wires: list[DeviceWire] = field(default_factory=list)
    mails: int = 0
    pending: list[tuple[Person, Answer, asyncio.Task[None]]] = field(default_factory=list)
    others: list[Person] = field(default_factory=list)
    drawn: dict[str, int] = field(default_factory=dict)

    async def observe(self, given: Input, beside: Sequence[tuple[Person, Ask]], order: int) -> list[Any]:
        """Do it, and what the attacker then sees. `beside`: what others ask in the same moment."""
        for person, ask in beside[:order]:
            self.begin(person, ask)
        doing = asyncio.ensure_future(given.do(self))
        for person, ask in beside[order:]:
            self.begin(person, ask)
        answer = await doing
        await self.house.loop.settle()
        seen: list[Any] = []
        if answer is not None:
            self.attacker.saw(answer, self.house.clock.monotonic())
            headers = tuple(sorted(_ordered(name, value) for name, value in answer.headers))
            seen.append(
                ("answer", answer.status, headers, self._body(answer.body), answer.seconds, answer.complete)
            )
        for number, wire in enumerate(self.wires):
            seen += [("socket", number, self._renamed(frame)) for frame in wire.take()]
        addresses = frozenset(self.attacker.addresses)
        mails, self.mails = self.house.mails_to(addresses, self.mails)
        for to, subject, text in mails:
            self.attacker.got_mail(to, text)
            seen.append(("mail", to, subject, text))
        self.reap()
        return seen

    def _body(self, body: bytes) -> bytes:
        """Without what is drawn for many at once. A parcel of a hand-over has a key that the library draws:
        its length is compared. A background job names events of the audit, and hashes and signatures chain
        them: they are told by their order."""
        body = _SEALED.sub(lambda found: b'"sealed":"%d characters"' % len(found[1]), body)
        return _CHAINED.sub(lambda found: found[1] + b"%064d" % self._number(found[2].decode()), body)

    def _number(self, drawn: str) -> int:
        return self.drawn.setdefault(drawn, len(self.drawn))

    def _renamed(self, frame: Any) -> Any:
        """A job's id is drawn by whoever asks for it, which may be the server for a test: told by its
        order."""
        if isinstance(frame, str) and (found := _JOB.search(frame)) is not None:
            return frame.replace(found[1], f"{self._number(found[1]):036}")
        return frame

    def begin(self, person: Person, ask: Ask) -> None:
        """Somebody else asks; no time passes for it."""
        self.pending.append((person, *self.house.begin_ask(person.name, ask)))

    def reap(self) -> None:
        """Others take note of what was answered."""
        now = self.house.clock.monotonic()
        for person, answer, task in [one for one in self.pending if one[2].done()]:
            task.result()
            person.saw(answer, now)
        self.pending = [one for one in self.pending if not one[2].done()]
        for person in self.others:
            kept, person.mails = self.house.mails_to(frozenset(person.addresses), person.mails)
            for to, _, text in kept:
                person.got_mail(to, text)

    async def as_other(self, person: Person, ask: Ask) -> Answer:
        """Somebody else's request, to where it gets without time passing."""
        self.begin(person, ask)
        answer = self.pending[-1][1]
        await self.house.loop.settle()
        self.reap()
        return answer

    def dial_as(
        self, person: Person, number: int, serves: str = "well", device_id: str | None = None
    ) -> None:
        """Somebody else's device comes online."""
        wire = DeviceWire(
            device_id=device_id or DEVICE_IDS[number],
            key=person.keys[number],
            token=person.access or "none",
            serves=serves,
        )
        person.wires = [*[w for w in person.wires if w.open][-4:], wire]
        self.house.dial(person.name, wire)


def _ordered(name: str, value: str) -> tuple[str, str]:
    """Methods in `allow` come from a set, whose order is the application's own: there are two of them
    here."""
    return (name, ", ".join(sorted(value.split(", ")))) if name == "allow" else (name, value)


class DifferenceError(AssertionError):
    """The attacker can tell the worlds apart."""


class Pair:
    """Both sides. `script` is what was done, for people to read."""

    trades = True
    """Whether the attacker deals with other networks."""

    def __init__(self, alone: House, crowded: House, seed: int) -> None:
        self.seed = seed
        self.script: list[str] = []
        self.compared = 0
        self.answers: Counter[tuple[str, int]] = Counter()
        self._last: Asking | None = None
        for house in (alone, crowded):
            house.begin(seed)
        self.alone, self.crowded = (Side(house, Person(ATTACKER, seed)) for house in (alone, crowded))
        self.ways: dict[str, Way] = {way.name: way for way in ways_of(crowded.app)}

    def end(self) -> None:
        for side in (self.alone, self.crowded):
            side.house.end()

    def arrange(self, early: int) -> None:
        """Who is there before the attacker; `early` has a bit for each that may be."""

    # ---- what a kind of pair adds ------------------------------------------------------------------------

    def guessed(self) -> list[Person]:
        """Whose ids the attacker tries."""
        return self.crowded.others

    def deeds(self, rng: random.Random, count: int) -> list[tuple[Person, Ask]]:
        """What others ask in the crowded world at the same moment as the attacker."""
        return []

    def stir(self, rng: random.Random) -> None:
        """Something goes on that is not the attacker's."""

    # ---- the attacker ------------------------------------------------------------------------------------

    @property
    def me(self) -> Person:
        return self.crowded.attacker

    def maker(self, rng: random.Random) -> Maker:
        return Maker(self.me, self.guessed(), rng, trades=self.trades, now=self.now())

    def now(self) -> int:
        return int(self.crowded.house.clock.now().timestamp())

    def do(self, given: Input, beside: Sequence[tuple[Person, Ask]] = (), order: int = 0) -> list[Any]:
        """In both worlds; DifferenceError if they differ."""
        self.script.append(f"attacker: {given}")
        self.script += [f"  at once, {person.name}: {ask}" for person, ask in beside]
        seen = self.crowded.house.run(self.crowded.observe(given, beside, order))
        expected = self.alone.house.run(self.alone.observe(given, (), 0))
        self.compared += 1
        if any(one[0] == "answer" and one[1] == 500 for one in seen):
            raise AssertionError("\n".join(["the server failed", *self.script, repr(seen)[:SHOWN_CHARS_MAX]]))
        if seen != expected:
            raise DifferenceError(self._told(expected, seen))
        return seen

    def _told(self, expected: list[Any], seen: list[Any]) -> str:
        at = next(
            (n for n, pair in enumerate(zip(expected, seen, strict=False)) if pair[0] != pair[1]),
            min(len(expected), len(seen)),
        )
        shown = [
            f"{name}: {(items[at] if at < len(items) else 'nothing')!r}"[:SHOWN_CHARS_MAX]
            for name, items in zip(SIDES, (expected, seen), strict=True)
        ]
        head = f"{type(self).__name__}, seed {self.seed}: the attacker can tell the worlds apart"
        return "\n".join([head, *self.script, *shown])

    def settle_in(self) -> None:
        """The attacker signs in, with a device, money, a socket, a provider and a first request."""
        self.sign_in()
        for path, body in first_steps(self.me):
            if path is None:
                self.do(Opening(DEVICE_IDS[0], 0, self.me.access or "", "well"))
                continue
            audience = ("market", "own", "network")[self.seed % 3]
            self.do(Asking(post(path, body(audience), self.me.access)))

    def sign_in(self) -> None:
        """Ask for a code at one's own address, and prove it; later, if there were too many."""
        me = self.me
        me.access = me.refresh = None
        for seconds in (0, 950):
            if seconds:
                self.do(Waiting(seconds, at_once=True))
            me.asked = self.alone.attacker.asked = 0, me.addresses[0]
            body = {"email": me.addresses[0], "device_key": me.public(0)}
            self.do(Asking(post("/api/v1/users/register", body, None)))
            flow = me.ready_flow(me.addresses[0])
            if flow is not None:
                code = me.codes.pop(flow)
                proof = me.verify_proof(0, flow, code)
                body = {"flow": flow, "code": code, "device_key": me.public(0), "proof": proof}
                self.do(Asking(post("/api/v1/users/verify", body, None)))
            if me.access is not None:
                return

    def stay_signed_in(self) -> None:
        """Refresh before the token ends; sign in again if the session did."""
        me = self.me
        if me.access is not None and me.token_until - self.crowded.house.clock.monotonic() > 30:
            return
        if me.refresh is not None:
            body = self.maker(random.Random(1)).refresh()
            answer = self.do(Asking(post("/api/v1/users/refresh", body, None)))
            if answer[0][1] == 200:
                return
        self.sign_in()

    def ask(self, name: str, rng: random.Random, at_once: int = 0) -> None:
        """A request on that route, with others beside it."""
        if name not in self.ways:
            return
        self.stay_signed_in()
        beside = self.deeds(rng, at_once) if at_once else []
        self._last = Asking(self.maker(rng).ask(self.ways[name]))
        seen = self.do(self._last, beside, rng.randrange(len(beside) + 1))
        self.answers[name, seen[0][1]] += 1
        if name in ("POST /api/v1/users/logout", "DELETE /api/v1/users/me") and seen[0][1] < 300:
            self.me.access = self.me.refresh = None

    def look(self, but: tuple[str, ...]) -> None:
        """Everything there is to read without an id, but what begins so."""
        self.stay_signed_in()
        headers = (("authorization", f"Bearer {self.me.access}"),) if self.me.access else ()
        for name, way in self.ways.items():
            if way.method == "GET" and not way.parameters and not way.path.startswith(but):
                seen = self.do(Asking(Ask("GET", way.path, "", headers)))
                self.answers[name, seen[0][1]] += 1

    def knock(self, rng: random.Random, times: int) -> None:
        """Ask for codes at one address, up to a limit that it may have."""
        number, address = self.maker(rng).key_number(), self.maker(rng).address()
        self.me.asked = self.alone.attacker.asked = number, address
        path = rng.choice(("/api/v1/users/login", "/api/v1/users/register"))
        asking = Asking(post(path, {"email": address, "device_key": self.me.public(number)}, None))
        for _ in range(times):
            self.do(asking)

    def again(self) -> None:
        """The last request, byte for byte."""
        if self._last is not None:
            self.do(self._last)

    def say(self, kind: str, rng: random.Random) -> None:
        """A message on one of the open sockets."""
        wires = [n for n, wire in enumerate(self.crowded.wires) if wire.open]
        if not wires:
            self.open(rng)
            return
        number = wires[rng.randrange(len(wires))]
        maker, wire = self.maker(rng), self.crowded.wires[number]
        if maker.chance(4):
            frame: str | bytes = maker.one("{", '{"type": "nonsense"}', b"\0\0\0\1abc", b"", "[]")
        elif wire.numbers["link"] and maker.chance(15):
            frame = int(maker.one(*wire.numbers["link"])).to_bytes(4, "big") + b"sealed"
        else:
            frame = json.dumps({"type": kind, **MESSAGES[kind](maker, wire)})
        self.do(Saying(number, frame))

    def open(self, rng: random.Random) -> None:
        """A socket more, or one less."""
        self.stay_signed_in()
        wires = [n for n, wire in enumerate(self.crowded.wires) if wire.open]
        if len(wires) >= SOCKETS_MAX or (wires and rng.randrange(3) == 0):
            self.do(HangingUp(wires[rng.randrange(len(wires))]))
            return
        maker, me = self.maker(rng), self.me
        number = rng.randrange(len(DEVICE_IDS))
        device_id = DEVICE_IDS[number] if maker.chance(90) else maker.id("device_id")
        subprotocol = SUBPROTOCOL if maker.chance(97) else "bifrost.v0"
        serves = maker.one("well", "well", "well", "busy", "faulty", "silent")
        self.do(Opening(device_id, number, me.access or "nonsense", serves, subprotocol))

    def wait(self, seconds: float, *, at_once: bool) -> None:
        self.do(Waiting(seconds, at_once))


def post(path: str, body: dict[str, Any], token: str | None) -> Ask:
    """A JSON request."""
    raw = json.dumps(body).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(raw)))]
    if token is not None:
        headers.insert(0, ("authorization", f"Bearer {token}"))
    return Ask("POST", path, "", tuple(headers), raw)


def first_steps(me: Person) -> Iterator[tuple[str | None, Callable[[str], dict[str, Any]]]]:
    """What somebody does first, with what was answered before: (path, body for the audience of the provider).
    A path of None: the device comes online."""
    device = DEVICE_IDS[0]
    yield "/api/v1/devices", lambda _: me.registration(0, device)
    yield (
        "/api/v1/payments/methods",
        lambda _: {
            "kind": "sandbox",
            "purpose": "both",
            "gateway_token": "sandbox_ok",
        },
    )
    method = me.known.get("method_id", [NEVER[0]])[-1]
    yield f"/api/v1/payments/methods/{method}/verify", lambda _: {}
    yield (
        "/api/v1/payments/process",
        lambda _: {
            "method_id": method,
            "amount_cents": 1000,
            "idempotency_key": "first",
        },
    )
    yield "/api/v1/keys", lambda _: {"name": "first"}
    yield None, lambda _: {}
    models = [{"model": "tiny", "price_cents": 1}, {"model": "embedder", "kind": "embeddings"}]
    yield (
        "/api/v1/marketplace/providers/register",
        lambda audience: {
            "device_id": device,
            "models": models,
            "audience": audience,
            "capacity_jobs": 2,
        },
    )
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
    yield (
        "/api/v1/marketplace/requests",
        lambda _: {
            "kind": "chat",
            "request": chat,
            "scope": "own",
            "idempotency_key": "first",
        },
    )
