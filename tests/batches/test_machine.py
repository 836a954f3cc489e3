"""The batched money path agrees with an oracle that shares no code with it, step by step.

`YGG_MONEY_EXAMPLES` sets how many random lives are lived.
"""

from __future__ import annotations

import os

from tests.batches.machine import run_machine
from tests.batches.stand import Stand

EXAMPLES = int(os.environ.get("YGG_MONEY_EXAMPLES", "50"))
STEPS = 25
REACHED = {
    "begin admitted",
    "begin cover",
    "begin method",
    "begin payout",
    "begin key",
    "begin limit",
    "begin conflict",
    "begin hold_used",
    "begin ended",
    "begin bug",
    "queued",
    "finish done",
    "finish before",
    "finish ended",
    "finish alone",
    "finish bug",
    "finish YG003",
    "finish at once",
    "hold True",
    "post posted",
    "failover moved",
    "failover ended",
    "reconciled",
}


async def test_batches_agree_with_the_oracle(stand: Stand) -> None:
    seen = await run_machine(stand, examples=EXAMPLES, steps=STEPS)
    print(sorted(seen.items()))
    assert not REACHED - set(seen), "the machine went nowhere near these"
