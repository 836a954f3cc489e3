"""Clients that ask without end, and what each was told of its request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from uuid import UUID

from tests.batches.stand import Stand
from tests.payments.support import CENT
from yggdrasil.errors import PaymentRequired, Unavailable
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.store_run import Bill, Ending, SealedResult

RATE = (10, 1000, "per_statement")
HOLD_MICROCENTS = CENT
Tell = Callable[[str, UUID, int], None]
"""(word, attempt, micro-cents): `asked`, then `admitted`, `refused` or `unknown`; `finishing`, then `settled`
or `ended`. A word is told once its answer is there, and never before."""


class Traffic:
    """Every network buys of every other. Stopped, a client brings what it began to its end."""

    def __init__(self, stand: Stand, dice: random.Random, tell: Tell) -> None:
        self.stand, self.dice, self.tell = stand, dice, tell
        self.stopped = False

    async def run(self, clients: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        while not self.stopped:
            await self.ask()

    async def ask(self) -> None:
        stand, records = self.stand, self.stand.records
        payer, seller = self.dice.sample(stand.scopes[:-1], 2)
        new, attempt = stand.request(payer, seller, RATE)
        total = self.dice.choice([0, 1, CENT // 3, CENT])
        self.tell("asked", attempt.attempt_id, total)
        try:
            await records.admit(new, attempt, HOLD_MICROCENTS)
        except PaymentRequired:
            self.tell("refused", attempt.attempt_id, 0)
            return
        except Unavailable:
            # As the server does: nobody knows whether it was committed, so it is ended.
            self.tell("unknown", attempt.attempt_id, 0)
            await records.give_up(new.network_id, attempt)
            return
        self.tell("admitted", attempt.attempt_id, HOLD_MICROCENTS)
        ending = Ending("completed", None, 1, 1, 1, 1, stand.clock.now())
        fee = total * 12 // 100
        bill = Bill(State.COMPLETED, 1, 1, total, fee, total - fee)
        result = SealedResult(b"n" * 12, b"sealed", stand.clock.now())
        self.tell("finishing", attempt.attempt_id, total)
        outcome = await records.finish(new, attempt, ending, bill, result)
        self.tell("settled" if outcome == "done" else "ended", attempt.attempt_id, total)
