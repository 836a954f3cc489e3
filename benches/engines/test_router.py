"""The router's pick from Python and from Rust, against LiteLLM's router and a scan by NumPy.

Offers are of one model, four devices to an owner. A round of ours is 5,000 picks, each charged; of 64 at
a time the eldest gives its slot back when the next one comes, which is in the measure too."""

from __future__ import annotations

import json
import os
import subprocess
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from itertools import count
from typing import Any, Final

import numpy as np

from benches.engines.sides import OURS, EngineMeasure, Side
from yggdrasil.scoring import Router

PICKS: Final = 5_000
BUYER: Final = b"\x01" * 16
MODEL: Final = "chat/llama-3.1-8b"
SEEDS: Final = count()
LITELLM: Final = f"litellm {version('litellm')}"
BUILD: Final = os.environ.get("YGG_BENCH_PROFILE", "fast")
"""The Cargo profile that the installed extension was built with; said in the results."""


@cache
def router(offers: int) -> Router:
    chance = np.random.default_rng(offers)
    made = Router(newcomer_ppm=50_000, offers_max=2_000_000)
    for number in range(offers):
        key = chance.bytes(16)
        made.upsert(
            key=key,
            owner=(1_000 + number // 4).to_bytes(16, "big"),
            group=(10**9 + number).to_bytes(16, "big"),
            model=MODEL,
            price_microcents=1_000_000 * int(chance.integers(1, 200)),
            context_tokens=(8_192, 32_768, 131_072)[number % 3],
            output_tokens=4_096,
            capacity=4,
            group_capacity=4,
        )
        made.set_online(key, True)
        made.set_estimates(
            key,
            quality=chance.random(),
            latency_ms=100 + 2_000 * chance.random(),
            availability=0.5 + chance.random() / 2,
        )
    return made


@cache
def running(offers: int) -> deque[bytes]:
    del offers  # one queue for each size
    return deque()


def ours(offers: int) -> None:
    one, busy = router(offers), running(offers)
    pick, release = one.pick, one.release
    for _ in range(PICKS):
        # With keywords, as the server calls it.
        picked = pick(
            model=MODEL,
            network=BUYER,
            scope="market",
            context_tokens=1_000,
            output_tokens=500,
            work_tokens=1_500,
            now_ms=1,
            seed=next(SEEDS),
        ).key
        if picked is None:
            raise RuntimeError("no offer fitted")
        busy.append(picked)
        if len(busy) > 64:
            release(busy.popleft())


@cache
def litellm_router(strategy: str, offers: int) -> Any:
    import litellm

    litellm.suppress_debug_info = True
    chance = np.random.default_rng(offers)
    return litellm.Router(
        model_list=[
            {
                "model_name": "llama",
                "litellm_params": {
                    "model": "openai/llama",
                    "api_key": "none",
                    "api_base": f"http://127.0.0.1:{1_000 + number}",
                    "input_cost_per_token": chance.random() / 1e6,
                    "output_cost_per_token": chance.random() / 1e6,
                },
                "model_info": {"id": f"d{number}"},
            }
            for number in range(offers)
        ],
        routing_strategy=strategy,
        set_verbose=False,
    )


def litellm(strategy: str, offers: int) -> None:
    import asyncio

    made = litellm_router(strategy, offers)
    picked = asyncio.run(
        made.async_get_available_deployment(
            model="llama", messages=[{"role": "user", "content": "hi"}], request_kwargs={}
        )
    )
    if picked["model_name"] != "llama":
        raise RuntimeError("another model was picked")


@cache
def parts(offers: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(offers).random((offers, 5))


def numpy_scan(offers: int) -> None:
    """What an expert would write for the score alone: no gate, no turn, no charge."""
    np.argmax(parts(offers) @ np.array([0.30, 0.25, 0.20, 0.15, 0.10]))


def _test_of(offers: int, *, litellm_too: bool = False) -> Any:
    """LiteLLM only where asked for: it takes milliseconds for each of its deployments to set up."""
    name = f"router.pick_1e{len(str(offers)) - 1}"
    peers: dict[str, Callable[[], object]] = {}
    if litellm_too:
        peers[f"{LITELLM} latency"] = partial(litellm, "latency-based-routing", offers)
        peers[f"{LITELLM} cost"] = partial(litellm, "cost-based-routing", offers)
    peers[f"numpy {np.__version__}"] = partial(numpy_scan, offers)
    measure = EngineMeasure(
        name, "µs", "lower", work=PICKS, target="<= 3 µs", bound=3.0, notes={"profile": BUILD}
    )

    @measure.sides(partial(ours, offers), peers, peer_work=1)
    def test(side: Side, benchmark: Any) -> None:
        side(benchmark)

    return test


test_pick_1e3 = _test_of(1_000, litellm_too=True)
test_pick_1e4 = _test_of(10_000)
test_pick_1e5 = _test_of(100_000)
test_pick_1e6 = _test_of(1_000_000)


def test_rust_picks(benchmark: Any) -> None:
    """The example counts its own CPU time: what the process starts with is none of the measure."""
    picks = 500_000
    command = [
        "cargo",
        "run",
        "--quiet",
        "--release",
        "-p",
        "scoring",
        "--example",
        "picks",
        "1000",
        str(picks),
    ]
    rates: list[float] = []

    def run() -> None:
        out = subprocess.run(command, capture_output=True, check=True, text=True).stdout  # noqa: S603 - fixed
        rates.append(json.loads(out)["picks_per_second"])

    run()
    rates.clear()
    measure = EngineMeasure("router.rust_picks", "1/s", "higher", target=">= 1 M", bound=1e6)
    side = Side(measure, OURS, run, measure.work)
    side(benchmark, rounds=5)
    # What one round means: the picks of the example's own clock, in place of the time of the process.
    benchmark.stats.stats.data[:] = [1.0 / rate for rate in rates[-5:]]
