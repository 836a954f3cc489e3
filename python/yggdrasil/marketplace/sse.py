"""Server-sent events of a run: chunks as they come, comments while nothing comes, one last word. No web
framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from yggdrasil.errors import YggdrasilError
from yggdrasil.marketplace.run import Chunk, Finished, Mark, Part, Run

KEEPALIVE = b": keepalive\n\n"


def event(data: bytes, name: str | None = None) -> bytes:
    """One event. `data` is JSON and so holds no line break."""
    head = b"event: " + name.encode() + b"\n" if name is not None else b""
    return head + b"data: " + data + b"\n\n"


async def stream(
    run: Run,
    *,
    keepalive_seconds: float,
    finished: Callable[[Finished], list[bytes]],
    failed: Callable[[YggdrasilError], list[bytes]],
    opening: Sequence[bytes] = (),
    passed: Callable[[bytes], list[bytes]] | None = None,
    marks_named: bool = False,
) -> AsyncGenerator[bytes, None]:
    """The body of the answer: `opening`, then each chunk as an event, or as the events that `passed` makes of
    it. With `marks_named`, what stands between two segments is an event of its own name. Closing it, or the
    reader's going away, cancels the run; what was delivered is paid."""
    try:
        for first in opening:
            yield first
        async with aclosing(_with_pauses(run, keepalive_seconds)) as parts:
            async for part in parts:
                match part:
                    case None:
                        yield KEEPALIVE
                    case Mark(data=data, kind=kind) if marks_named:
                        yield event(data, kind)
                    case Chunk(data=data):
                        for made in [event(data)] if passed is None else passed(data):
                            yield made
                    case Finished():
                        for last in finished(part):
                            yield last
    except YggdrasilError as error:
        for last in failed(error):
            yield last
    finally:
        run.close()


async def _with_pauses(run: Run, seconds: float) -> AsyncGenerator[Part | None, None]:
    """The run's parts, and None whenever nothing came for so long."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                part = await run.pipe.get()
        except TimeoutError:
            yield None
            continue
        if part is None:
            return
        yield part
