"""The watch: on a budget, each canary asks for the other's things and for things that never were, and the two
answers are compared. A difference is a leak.

It does not only look for leaks but also whether it can see at all: a canary that does not find its own device
and key would find no leak either, and then the watch is blind, not content.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

import msgspec
import structlog
from litestar.routes import HTTPRoute

from yggdrasil.kernel import SENTINEL_NETWORKS, Clock, IdSource
from yggdrasil.observe import ISOLATION_LEAKS, ISOLATION_PROBED_AT, ISOLATION_PROBES
from yggdrasil.sentinel.asking import Answer, Session
from yggdrasil.sentinel.canary import Blind, Canary
from yggdrasil.sentinel.probes import SOCKET, Probe, difference, probes_of
from yggdrasil.users.service import Users
from yggdrasil.wire.proof import decode_bytes, encode_bytes, hello_payload

if TYPE_CHECKING:
    from litestar import Litestar

ROUND_SECONDS: Final = 5.0
"""How often the job comes by; the budget of a minute is spread over its rounds."""
LEAKS_KEPT: Final = 20
STALE_SECONDS: Final = 120.0
LIMITED: Final = 429
FRAMES_MAX: Final = 16
_KINDS: Final = ("device", "key", "removed device", "removed key")

_log = structlog.get_logger("yggdrasil.sentinel")


@dataclass(frozen=True, slots=True)
class Leak:
    """What gave a network away. `what` names no id, and nothing of an answer's text."""

    at: str
    method: str
    path: str
    tried: str
    what: str


class Health(msgspec.Struct, frozen=True):
    """`starting` until every probe was made once; `stale` if none was made for two minutes; `blind` if a
    canary does not see its own things; `leaking` from the first leak until the next start; `off` if the
    budget is 0."""

    status: Literal["ok", "starting", "off", "stale", "blind", "leaking"]
    probes: int
    leaks: int
    rounds: int
    """How often every probe was made."""
    places: int
    """Places for an id, of routes and messages."""
    last_probe_at: str | None
    last_probe_seconds_ago: float | None
    why_blind: str | None
    last_leaks: list[Leak]

    @property
    def well(self) -> bool:
        return self.status in ("ok", "starting", "off")


@dataclass(frozen=True, slots=True)
class _Try:
    probe: Probe
    asker: int
    kind: str


class Sentinel:
    """`node_id` tells the things of this node from those of others. `probes_per_minute`: pairs of questions;
    0 switches it off."""

    def __init__(
        self, users: Users, clock: Clock, ids: IdSource, *, node_id: UUID, probes_per_minute: int
    ) -> None:
        self._users, self._clock, self._ids = users, clock, ids
        self._node = f"canary-{node_id.hex[:16]}"
        self._per_round = probes_per_minute * ROUND_SECONDS / 60
        self._owed = 0.0
        self._canaries: list[Canary] = []
        self._settled = False
        self._probes: list[Probe] = []
        self._deck: list[_Try] = []
        self._views: list[list[Any]] = []
        self._random = Random(ids.secret(16))  # noqa: S311  an order, not a secret
        self._made = self._leaks = self._rounds = 0
        self._last: tuple[str, float] | None = None
        self._began = clock.monotonic()
        self._why_blind: str | None = None
        self._kept: deque[Leak] = deque(maxlen=LEAKS_KEPT)

    def watch(self, app: Litestar) -> None:
        """Try this application. What is tried is read off its routes."""
        self._canaries = [
            Canary(app, self._users, self._clock, self._ids, network_id, self._node)
            for network_id in SENTINEL_NETWORKS
        ]
        self._probes = list(
            probes_of(
                (route.path, {str(method) for method in route.methods})
                for route in app.routes
                if isinstance(route, HTTPRoute)
            )
        )

    async def run_once(self) -> None:
        """As many probes as the budget allows for one round of the job."""
        self._owed = min(self._owed + self._per_round, 2 * max(self._per_round, 1.0))
        try:
            if not self._settled and self._owed >= 1:
                for canary in self._canaries:
                    await canary.settle_in()
                self._settled = True
            while self._settled and self._owed >= 1:
                self._owed -= 1
                await self._next()
            self._why_blind = None
        except Blind as blind:
            self._settled, self._deck = False, []
            self._why_blind = str(blind)
            _log.error("isolation_watch_blind", why=str(blind))

    def health(self) -> Health:
        """How it stands."""
        ago = self._clock.monotonic() - (self._last[1] if self._last else self._began)
        status: Literal["ok", "starting", "off", "stale", "blind", "leaking"] = "ok"
        if self._leaks:
            status = "leaking"
        elif not self._per_round:
            status = "off"
        elif self._why_blind is not None:
            status = "blind"
        elif ago > max(STALE_SECONDS, 3 * ROUND_SECONDS / self._per_round):
            status = "stale"
        elif not self._rounds:
            status = "starting"
        return Health(
            status=status,
            probes=self._made,
            leaks=self._leaks,
            rounds=self._rounds,
            places=len(self._probes),
            last_probe_at=self._last[0] if self._last else None,
            last_probe_seconds_ago=round(ago, 3) if self._last else None,
            why_blind=self._why_blind,
            last_leaks=list(self._kept),
        )

    async def _next(self) -> None:
        if not self._deck:
            await self._deal()
        one = self._deck.pop()
        asker, owner = self._canaries[one.asker], self._canaries[1 - one.asker]
        foreign = owner.known[one.kind]
        absent = str(self._ids.uuid()) if "key" in one.kind else asker.fresh_device()
        what = await (self._sockets if one.probe.method == SOCKET else self._routes)(
            asker, one.probe, foreign, absent
        )
        self._made += 1
        self._last = (self._clock.now().isoformat(), self._clock.monotonic())
        ISOLATION_PROBES.inc()
        ISOLATION_PROBED_AT.set(self._clock.now().timestamp())
        if what is not None:
            self._leak(one.probe, one.kind, what)
        if not self._deck:
            await self._compare_views()
            self._rounds += 1

    async def _deal(self) -> None:
        """Every probe with every kind of id, from both sides, in an order of its own."""
        self._views = [await canary.view() for canary in self._canaries]
        self._deck = [
            _Try(probe, asker, kind) for probe in self._probes for asker in (0, 1) for kind in _KINDS
        ]
        self._random.shuffle(self._deck)

    async def _compare_views(self) -> None:
        """Nothing that one tried has changed what the other has."""
        for canary, before in zip(self._canaries, self._views, strict=True):
            try:
                same = await canary.view() == before
            except Blind:
                same = False
            if not same:
                self._settled = False
                self._leak(Probe("*", "*"), "*", "the other network's own things changed")

    def _leak(self, probe: Probe, kind: str, what: str) -> None:
        self._leaks += 1
        ISOLATION_LEAKS.inc()
        self._kept.append(Leak(self._clock.now().isoformat(), probe.method, probe.path, kind, what))
        _log.error("isolation_leak", method=probe.method, path=probe.path, tried=kind, what=what)

    async def _routes(self, asker: Canary, probe: Probe, foreign: str, absent: str) -> str | None:
        body: dict[str, Any] | None = None if probe.method in ("GET", "DELETE", "HEAD") else {}
        answers: dict[str, Answer] = {}
        for value in self._random.sample((foreign, absent), 2):
            answers[value] = await asker.ask(probe.method, probe.filled(value), body)
        if LIMITED in (answers[foreign].status, answers[absent].status):
            return None  # The asker's own limit, which it reaches wherever it is in its order.
        return difference(answers[foreign], answers[absent], foreign, absent)

    async def _sockets(self, asker: Canary, probe: Probe, foreign: str, absent: str) -> str | None:
        frames: dict[str, str] = {}
        for value in self._random.sample((foreign, absent), 2):
            frames[value] = str(await self._heard(asker, probe.path, value)).replace(value, "?")
        return None if frames[foreign] == frames[absent] else "frames differ"

    async def _heard(self, asker: Canary, kind: str, to: str) -> list[dict[str, Any]]:
        """What a device hears that wants something of `to`, until the answer."""
        async with Session(asker.app) as session:
            challenge = await session.hear()
            token = await asker.token()
            nonce = decode_bytes(challenge["nonce"], 32, "nonce")
            proof = encode_bytes(asker.key.sign(hello_payload(nonce, token)))
            session.say(type="hello", token=token, device_id=asker.known["device"], proof=proof)
            if (welcome := await session.hear())["type"] != "welcome":
                raise Blind(f"A canary's own device was not let in: {welcome['type']}")
            more: dict[str, Any] = {"purpose": "probe"}
            if kind == "action":
                more = {"name": "probe", "deadline_ms": 1_000, "idempotency_id": "probe", "arguments": {}}
            session.say(type=kind, request=1, to=to, **more)
            heard: list[dict[str, Any]] = []
            while len(heard) < FRAMES_MAX:
                frame = await session.hear()
                if frame["type"] == "ping":
                    continue
                heard.append(frame)
                if frame.get("request") == 1 or frame["type"] == "closed":
                    break
            return heard
