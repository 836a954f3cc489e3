"""A chat completion through the gateway: what it adds to the backend, how many it can do, what memory it takes.

Ours is complete: key, count, quote, pick, hold and attempt in one durable transaction, job to the provider's
device over its socket, checked and counted chunks, settlement in a second durable transaction. LiteLLM checks
a key and forwards.
"""

from __future__ import annotations

import json
import statistics
from typing import Final

from benches import peers
from benches.backend import MODEL
from benches.client import Target, closed_loop, open_loop
from benches.machine import Meter, descendants, memory_mib, resident_mib
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


async def measure(world: World, plan: Plan) -> list[Measure]:
    """Every measure of this group."""
    added50 = Measure("gateway.chat_added_p50", "ms", "lower", "≤ 6 ms", bound=6)
    added99 = Measure("gateway.chat_added_p99", "ms", "lower", "≤ 25 ms", bound=25)
    rate = Measure("gateway.chat_rps", "requests/s", "higher", "≥ 5× LiteLLM", least_ratio=5)
    memory = Measure("gateway.rss", "MiB", "lower", "≤ 1/3 of LiteLLM", least_ratio=3)
    whole = Measure("gateway.memory_with_database", "MiB", "lower")
    for each in (added50, added99):
        each.notes["per_second"] = RATE_PER_SECOND
    rate.notes["connections"] = CONNECTIONS
    server = world.server_pids["server"][0]
    postmaster = world.house.postmaster()
    async with peers.litellm(world) as peer:
        direct = Target.of(world.backend_port, "POST", PATH, body=BODY, expect=b'"chat.completion"')
        sides = [
            ("ours", _target(world.house.port, world.api_key), [server]),
            (peer.name, _target(peer.port, peers.MASTER_KEY), [peer.pid, *descendants(peer.pid)]),
        ]
        for number in plan.rounds_with_warm_up():
            bare = await open_loop(direct, per_second=RATE_PER_SECOND, connections=64, seconds=plan.seconds)
            for name, target, pids in sides:
                slow = await open_loop(
                    target, per_second=RATE_PER_SECOND, connections=64, seconds=plan.seconds
                )
                groups = {"server": pids, "database": [postmaster, *descendants(postmaster)]}
                groups |= {part: world.server_pids[part] for part in ("provider", "backend")}
                meter = Meter(groups)
                fast = await closed_loop(target, connections=CONNECTIONS, seconds=plan.seconds)
                if number == 0:
                    continue
                plan.add(added50, name, slow.percentile_ms(50) - bare.percentile_ms(50))
                plan.add(added99, name, slow.percentile_ms(99) - bare.percentile_ms(99))
                plan.add(rate, name, fast.per_second)
                rate.notes.setdefault("cpu_us_per_request", {})[name] = meter.microseconds_each(
                    len(fast.latencies)
                )
                rate.notes.setdefault("p50_ms", {})[name] = round(fast.percentile_ms(50), 2)
                plan.add(memory, name, sum(resident_mib(pid) for pid in pids))
                tree = [postmaster, *descendants(postmaster)] if name == "ours" else []
                plan.add(whole, name, memory_mib(*pids, *tree))
    books = await world.house.audit()
    rate.notes["books_after"] = {name: books[name] for name in ("sum_microcents", "clearing_microcents")}
    if books["sum_microcents"] or books["clearing_microcents"]:
        raise ValueError(f"the books do not balance after the run: {books}")
    rate.notes["requests"] = statistics.median(rate.ours)
    return [added50, added99, rate, memory, whole]


def _target(port: int, key: str) -> Target:
    return Target.of(port, "POST", PATH, token=key, body=BODY, expect=b'"chat.completion"')
