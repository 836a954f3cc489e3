"""That every kind of question can be asked as often as a measurement of its time asks it.

What the times tell is the matter of the campaign.
"""

from __future__ import annotations

import asyncio

from tests.isolation.timing import block, open_bench

PAIRS = 4
"""With the first four answers of a block more than the codes that one address may ask for."""


async def test_every_class_can_be_measured() -> None:
    async with open_bench(seed=1) as bench:
        for one in bench.classes():
            asked = await one.ready()
            times = await asyncio.to_thread(block, *asked, PAIRS, bench.draw)
            assert [len(side) for side in times] == [PAIRS, PAIRS], one.name
