"""Random lives of the machine; `YGG_MONEY_SHRINK=1` looks for the shortest one that fails."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.batches.machine import BatchMachine
from tests.batches.stand import Stand

SHRINK = bool(os.environ.get("YGG_MONEY_SHRINK"))


async def run_machine(stand: Stand, *, examples: int, steps: int, control: bool = False) -> Counter[str]:
    """What happened how often. A control need not find the shortest way to fail."""
    seen: Counter[str] = Counter()
    shared = {"stand": stand, "loop": asyncio.get_running_loop(), "seen": seen}
    machine: Any = seeded(stand.ids.seed)(type("Machine", (BatchMachine,), shared))
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        # The seed is enough to see it again; the shortest way to it takes minutes.
        phases=[Phase.generate, *([Phase.shrink] if SHRINK and not control else [])],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
    return seen
