"""What the market does at the beat of its epochs: scores, reference points, counts."""

from __future__ import annotations

from typing import Final

import structlog

from yggdrasil.db import Database
from yggdrasil.errors import YggdrasilError
from yggdrasil.kernel import Market
from yggdrasil.marketplace import store
from yggdrasil.marketplace.breakdown import Work
from yggdrasil.marketplace.routing import Routing
from yggdrasil.tracing import traced

EPOCH_SECONDS: Final = 10.0
MOVED_PERCENT_SET: Final = 1
MOVED_PERCENT_STORED: Final = 5

_log = structlog.get_logger("yggdrasil.marketplace")

_Points = tuple[int, int]


class Epochs:
    """The rounds of a server's market. `start` before the first one."""

    def __init__(self, database: Database, routing: Routing, work: Work) -> None:
        self._database = database
        self._routing = routing
        self._work = work
        self._set: dict[tuple[str, str], _Points] = {}
        self._stored: dict[tuple[str, str], _Points] = {}

    def start(self, models: list[tuple[str, str, int, int]]) -> None:
        """The reference points that were stored: (model, kind, price, latency)."""
        for model, kind, price_microcents, latency_ms in models:
            self._stored[model, kind] = self._set[model, kind] = (price_microcents, latency_ms)
            self._routing.set_references(model, kind, price_microcents, latency_ms)

    @traced("job epoch", alone=True)
    async def run_once(self) -> None:
        """One epoch. What cannot be written now is written in a later one."""
        self._routing.tick()
        moved = self._follow_medians()
        self._routing.count(self._work)
        try:
            await self._work.flush()
            if moved:
                async with self._database.transaction(Market()) as tx:
                    await store.update_references(tx, moved)
                self._stored |= {(model, kind): (price, ms) for model, kind, price, ms in moved}
        except YggdrasilError as error:
            _log.warning("epoch not written", error=error.code)

    async def stop(self) -> None:
        """Write down what was counted so far."""
        self._routing.count(self._work)
        try:
            await self._work.flush(whole=True)
        except YggdrasilError as error:
            _log.warning("epoch not written", error=error.code)

    def _follow_medians(self) -> list[tuple[str, str, int, int]]:
        """A model's price and latency score one half at the middle of its market. Returns what is to be
        stored."""
        to_store = []
        for model, kind, price, latency_ms in self._routing.medians():
            key, now = (model, kind), (price, latency_ms)
            if _moved(self._set.get(key), now, MOVED_PERCENT_SET):
                self._set[key] = now
                self._routing.set_references(model, kind, price, latency_ms)
            if _moved(self._stored.get(key), now, MOVED_PERCENT_STORED):
                to_store.append((model, kind, price, latency_ms))
        return to_store


def _moved(before: _Points | None, now: _Points, percent: int) -> bool:
    if before is None:
        return True
    moves = ((abs(new - old), old) for new, old in zip(now, before, strict=True))
    return any(move and move * 100 >= old * percent for move, old in moves)
