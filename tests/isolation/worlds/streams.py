"""Ids and secrets drawn per person: what a victim draws does not shift what the attacker is given.

Everything a person's request draws comes from that person's own stream, so that in both worlds the attacker
gets the very same ids, nonces and codes, and answers can be compared byte by byte, without renaming anything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from uuid import UUID

SYSTEM = "system"
_actor: ContextVar[str] = ContextVar("actor", default=SYSTEM)


class Streams:
    """A `kernel.IdSource`."""

    def __init__(self) -> None:
        self._seed = 0
        self._of: dict[str, random.Random] = {}

    def restart(self, seed: int) -> None:
        """All streams anew."""
        self._seed = seed
        self._of.clear()

    def uuid(self) -> UUID:
        return UUID(int=self._mine().getrandbits(128), version=4)

    def secret(self, length: int) -> bytes:
        return self._mine().randbytes(length)

    def of(self, actor: str) -> random.Random:
        """A stream that no request draws from: keys of devices, for example."""
        return random.Random(f"{self._seed} {actor}")

    def _mine(self) -> random.Random:
        actor = _actor.get()
        if actor == SYSTEM and (task := asyncio.current_task()) is not None:
            # Each background job by its name, for as long as its context lives.
            name = task.get_name()
            if ":" in name or name.startswith("job "):
                actor = name
                _actor.set(actor)
        found = self._of.get(actor)
        if found is None:
            found = self._of[actor] = random.Random(f"{self._seed} {actor}")
        return found


@contextmanager
def acting(actor: str) -> Iterator[None]:
    """Whoever draws inside is `actor`, and so are the tasks begun inside."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def context_of(actor: str) -> Context:
    """A context for a task of `actor`."""
    context = copy_context()
    context.run(_actor.set, actor)
    return context
