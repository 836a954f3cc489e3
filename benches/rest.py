"""The device list over REST: requests a second against FastAPI, and the tail at a fixed rate."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from benches import peers
from benches.client import Target, closed_loop, open_loop
from benches.machine import Meter
from benches.plan import Plan
from benches.report import Measure
from benches.world import World

CONNECTIONS: Final = 16
RATE_PER_SECOND: Final = 1_000
PAGE: Final = "/api/v1/devices?limit=20"
ONE: Final = "/api/v1/devices/bench-0050"


async def measure(world: World, plan: Plan) -> list[Measure]:
    """Every measure of this group."""
    page = Measure("rest.device_page", "requests/s", "higher", "≥ 2× FastAPI", least_ratio=2)
    page_p99 = Measure("rest.device_page_p99", "ms", "lower")
    get = Measure("rest.device_get", "requests/s", "higher")
    tail = Measure("rest.device_get_p99", "ms", "lower", f"≤ 20 ms at {RATE_PER_SECOND:,}/s", bound=20)
    page.notes["connections"] = page_p99.notes["connections"] = get.notes["connections"] = CONNECTIONS
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(peers.fastapi(world, tuned=False))
        tuned = await stack.enter_async_context(peers.fastapi(world, tuned=True))
        sides = [("ours", world.house.port, world.pids["server"][0])]
        sides += [(peer.name, peer.port, peer.pid) for peer in (plain, tuned)]
        for number in plan.rounds_with_warm_up():
            for name, port, pid in sides:
                # Anew for each: a round of all of them can outlast what is left of it.
                token = await world.token()
                many = Target.of(port, "GET", PAGE, token=token, expect=b'"bench-0019"')
                one = Target.of(port, "GET", ONE, token=token, expect=b'"bench-0050"')
                meter = Meter({"server": [pid], "database": world.database_pids()})
                pages = await closed_loop(many, connections=CONNECTIONS, seconds=plan.seconds)
                used = meter.microseconds_each(len(pages.latencies))
                gets = await closed_loop(one, connections=CONNECTIONS, seconds=plan.seconds)
                steady = await open_loop(
                    one, per_second=RATE_PER_SECOND, connections=64, seconds=plan.seconds
                )
                if number == 0:
                    continue
                plan.add(page, name, pages.per_second)
                plan.add(page_p99, name, pages.percentile_ms(99))
                plan.add(get, name, gets.per_second)
                plan.add(tail, name, steady.percentile_ms(99))
                page.notes.setdefault("cpu_us_per_request", {})[name] = used
    return [page, page_p99, get, tail]
