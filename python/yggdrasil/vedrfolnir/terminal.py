"""The terminal side of the commands: questions, lines as they are typed, errors as one line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from yggdrasil.errors import YggdrasilError
from yggdrasil.kernel import MICROCENTS_PER_CENT

STATE_VARIABLE: Final = "VEDRFOLNIR_STATE"
LINE_BYTES_MAX: Final = 60_000


def say(text: str) -> None:
    """One line, at once: others may read it through a pipe."""
    print(text, flush=True)


def state_path() -> Path:
    """Where this machine keeps its device: VEDRFOLNIR_STATE, or a file below the user's configuration
    folder.
    """
    if chosen := os.environ.get(STATE_VARIABLE):
        return Path(chosen)
    base = os.environ.get("APPDATA") if sys.platform == "win32" else os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "yggdrasil" / "device.json"


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command; a known error is one line and exit code 1, Ctrl-C is exit code 130."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(work)
    except YggdrasilError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it exists: a seller's device spends most of its time on sockets. None is asyncio's."""
    try:
        import uvloop
    except ModuleNotFoundError:  # not made for Windows
        return None
    return uvloop.new_event_loop


async def ask(question: str) -> str:
    """One line from standard input, or an error if there is none."""
    print(question, end=" ", flush=True)
    line: str = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise YggdrasilError(f"no answer to: {question}")
    return line.strip()


async def typed_lines() -> AsyncIterator[str]:
    """Lines of standard input as they come. Ends with it."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        # A daemon: a terminal's read cannot be interrupted, and must not keep the process alive.
        with contextlib.suppress(RuntimeError):  # the loop has ended
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\n")[:LINE_BYTES_MAX])
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True, name="standard input").start()
    while (line := await lines.get()) is not None:
        yield line


async def until_told_to_stop(work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; Ctrl-C or a request to terminate ends it in order."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # no such handlers on Windows: Ctrl-C raises there
            loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise


def cents(microcents: int) -> str:
    """An exact amount for people: `12.345678 cents`, without needless zeros."""
    whole, rest = divmod(abs(microcents), MICROCENTS_PER_CENT)
    fraction = f"{rest:06d}".rstrip("0")
    sign = "-" if microcents < 0 else ""
    return f"{sign}{whole}{'.' if fraction else ''}{fraction} cents"
