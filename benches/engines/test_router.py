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
from itertools import count
from typing import Any, Final

import numpy as np
import pytest

from benches.engines.sides import EngineMeasure, Side
from yggdrasil.scoring import Router

PICKS: Final = 5_000
BUYER: Final = b"\x01" * 16
MODEL: Final = "chat/llama-3.1-8b"
SEEDS: Final = count()
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


@pytest.mark.parametrize("offers", [1_000, 10_000, 100_000, 1_000_000], ids=["1e3", "1e4", "1e5", "1e6"])
@pytest.mark.parametrize("side", ["ours", "latency", "cost", "numpy"])
def test_pick(side: str, offers: int, benchmark: Any) -> None:
    name = f"router.pick_1e{len(str(offers)) - 1}"
    notes = {"profile": BUILD}
    runs: dict[str, tuple[str, Callable[[], object], int]] = {
        "ours": ("ours", partial(ours, offers), PICKS),
        "numpy": (f"numpy {np.__version__}", partial(numpy_scan, offers), 1),
    }
    if offers == 1_000:
        runs["latency"] = ("litellm 1.106.2 latency", partial(litellm, "latency-based-routing", offers), 1)
        runs["cost"] = ("litellm 1.106.2 cost", partial(litellm, "cost-based-routing", offers), 1)
    if side not in runs:
        pytest.skip("LiteLLM is measured at 1,000 deployments")
    label, run, work = runs[side]
    measure = EngineMeasure(name, "µs", "lower", work=work, target="<= 3 µs", bound=3.0, notes=notes)
    run()
    Side(measure, label, run)(benchmark, rounds=20)


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
    side = Side(measure, "ours", run)
    side(benchmark, rounds=5)
    # What one round means: the picks of the example's own clock, in place of the time of the process.
    benchmark.stats.stats.data[:] = [1.0 / rate for rate in rates[-5:]]
