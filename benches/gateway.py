"""A chat completion through the gateway: what it adds to the backend, how many it does, the memory it takes.

Ours is complete: key, count, quote, pick, hold and attempt in one durable transaction, job to the provider's
device over its socket, checked and counted chunks, settlement in a second durable transaction. LiteLLM checks
a key and forwards.
"""

from __future__ import annotations

import json
from typing import Final

from benches import peers
from benches.backend import MODEL
from benches.client import BenchError, Sample, Target, closed_loop, open_loop
from benches.machine import Meter, descendants, memory_mib, resident_mib
from benches.peers import Peer
from benches.plan import Plan
from benches.report import Measure
from benches.world import World

CONNECTIONS: Final = 32
RATE_PER_SECOND: Final = 50
PATH: Final = "/v1/chat/completions"
BODY: Final = json.dumps(
    {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You answer in a few words."},
            {"role": "user", "content": "What do the two ravens tell when they come home in the evening?"},
        ],
        "max_tokens": 64,
    }
).encode()


class Gateway:
    """The measures of this group, filled round by round."""

    def __init__(self, world: World, plan: Plan, peer: Peer) -> None:
        self._world = world
        self._plan = plan
        self._peer = peer
        self.added50 = Measure("gateway.chat_added_p50", "ms", "lower", "≤ 6 ms", bound=6)
        self.added99 = Measure("gateway.chat_added_p99", "ms", "lower", "≤ 25 ms", bound=25)
        self.rate = Measure("gateway.chat_rps", "requests/s", "higher", "≥ 5× LiteLLM", least_ratio=5)
        self.one_wallet = Measure("gateway.chat_rps_one_wallet", "requests/s", "higher")
        self.memory = Measure("gateway.rss", "MiB", "lower", "≤ 1/3 of LiteLLM", least_ratio=3)
        self.whole = Measure("gateway.memory_with_database", "MiB", "lower")
        self.added50.notes["per_second"] = self.added99.notes["per_second"] = RATE_PER_SECOND
        self.rate.notes["connections"] = self.one_wallet.notes["connections"] = CONNECTIONS
        self._direct = Target.of(world.backend_port, "POST", PATH, body=BODY, expect=b'"chat.completion"')
        self._ours = [_target(world.house.port, key) for key in world.api_keys]
        self._theirs = _target(peer.port, peers.MASTER_KEY)

    @property
    def measures(self) -> list[Measure]:
        return [self.added50, self.added99, self.rate, self.one_wallet, self.memory, self.whole]

    async def round(self, *, counts: bool) -> None:
        """Directly, ours, the peer; then both under full load. Nothing is kept unless it `counts`."""
        bare = await self._steady(self._direct)
        ours, theirs = await self._steady(self._ours[0]), await self._steady(self._theirs)
        plan, seconds = self._plan, self._plan.seconds
        server = self._world.pids["server"]
        peer = [self._peer.pid, *descendants(self._peer.pid)]
        meter = self._meter(server)
        full = await closed_loop(*self._ours, connections=CONNECTIONS, seconds=seconds)
        used = {"ours": meter.microseconds_each(len(full.latencies))}
        meter = self._meter(peer)
        peer_full = await closed_loop(self._theirs, connections=CONNECTIONS, seconds=seconds)
        used[self._peer.name] = meter.microseconds_each(len(peer_full.latencies))
        hot = await closed_loop(self._ours[0], connections=CONNECTIONS, seconds=seconds)
        if not counts:
            return
        for side, steady, loaded in (("ours", ours, full), (self._peer.name, theirs, peer_full)):
            plan.add(self.added50, side, steady.percentile_ms(50) - bare.percentile_ms(50))
            plan.add(self.added99, side, steady.percentile_ms(99) - bare.percentile_ms(99))
            plan.add(self.rate, side, loaded.per_second)
            self.rate.notes.setdefault("p50_ms", {})[side] = round(loaded.percentile_ms(50), 1)
        self.rate.notes["cpu_us_per_request"] = used
        plan.add(self.one_wallet, "ours", hot.per_second)
        plan.add(self.one_wallet, self._peer.name, peer_full.per_second)
        for side, pids, database in (
            ("ours", server, self._world.database_pids()),
            (self._peer.name, peer, []),
        ):
            plan.add(self.memory, side, sum(resident_mib(pid) for pid in pids))
            plan.add(self.whole, side, memory_mib(*pids, *database))

    async def _steady(self, target: Target) -> Sample:
        return await open_loop(
            target, per_second=RATE_PER_SECOND, connections=64, seconds=self._plan.seconds * 1.5
        )

    def _meter(self, server: list[int]) -> Meter:
        parts = {part: self._world.pids[part] for part in ("provider", "backend")}
        return Meter({"server": server, "database": self._world.database_pids(), **parts})


async def measure(world: World, plan: Plan) -> list[Measure]:
    """Every measure of this group. The books must balance afterwards, or nothing of it counts."""
    async with peers.litellm(world) as peer:
        gateway = Gateway(world, plan, peer)
        for number in plan.rounds_with_warm_up():
            await gateway.round(counts=number > 0)
            if number == 0:
                await world.analyze()
    books = await world.house.audit()
    if books["sum_microcents"] or books["clearing_microcents"] or books["mismatched_balances"]:
        raise BenchError(f"the books do not balance after the run: {books}")
    return gateway.measures


def _target(port: int, key: str) -> Target:
    return Target.of(port, "POST", PATH, token=key, body=BODY, expect=b'"chat.completion"')
