"""That lives do not reach into each other."""

from __future__ import annotations

import gc

import pytest

from tests.isolation.worlds.stage import Stage
from yggdrasil.audit.service import Audit


def test_a_life_that_ended_does_nothing_in_the_next(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[Audit] = []
    close = Audit.close

    async def noted(self: Audit) -> None:
        stopped.append(self)
        await close(self)

    monkeypatch.setattr(Audit, "close", noted)
    house = on.crowded
    house.begin(1)
    audit = house.services.audit
    house.end()
    assert stopped == [audit]
    house.begin(2)
    gc.collect()
    house.run(house.loop.settle())
    assert stopped == [audit]
    house.end()
