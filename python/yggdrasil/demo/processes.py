"""The demonstration's processes: started with a log each, watched line by line, and ended by name in the
end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from yggdrasil.errors import Timeout, Unavailable

STOP_SECONDS_MAX: Final = 15
LINE_SECONDS_MAX: Final = 120
TAIL_LINES: Final = 15


class Process:
    """One child. Its output goes to its log, and line by line to `on_line` and `line()`."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.on_line: Callable[[str], None] | None = None
        self.lines: list[str] = []
        self._child = child
        self._news = asyncio.Condition()
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.returncode is None

    async def _read(self) -> None:
        output = self._child.stdout
        assert output is not None  # noqa: S101  # started with a pipe
        with self.log.open("wb") as log:
            # In pieces, not by `readline`: a question ends without a line end.
            rest = b""
            while piece := await output.read(65_536):
                log.write(piece)
                log.flush()
                *whole, rest = (rest + piece).split(b"\n")
                for raw in whole:
                    await self._line(raw.decode(errors="replace"))
                if rest.endswith((b": ", b"] ")):
                    await self._line(rest.decode(errors="replace"))
                    rest = b""
            if rest:
                await self._line(rest.decode(errors="replace"))
        async with self._news:
            self._ended = True
            self._news.notify_all()

    async def _line(self, line: str) -> None:
        async with self._news:
            self.lines.append(line)
            self._news.notify_all()
        if self.on_line is not None:
            self.on_line(line)

    async def line(self, start: str, *, seconds_max: float = LINE_SECONDS_MAX) -> str:
        """The first line that starts so, past or to come. Unavailable, with the log's end, if there is
        none.
        """
        try:
            async with asyncio.timeout(seconds_max), self._news:
                seen = 0
                while True:
                    for line in self.lines[seen:]:
                        if line.startswith(start):
                            return line
                    seen = len(self.lines)
                    if self._ended:
                        raise Unavailable(f"{self.name} ended without saying {start!r}:\n{self.tail()}")
                    await self._news.wait()
        except TimeoutError:
            raise Timeout(f"{self.name} did not say {start!r}:\n{self.tail()}") from None

    def tail(self) -> str:
        """The end of its output."""
        return "\n".join(f"  {line}" for line in self.lines[-TAIL_LINES:])

    async def write(self, text: str) -> None:
        """A line to its standard input."""
        child = self._child.stdin
        assert child is not None  # noqa: S101  # started with a pipe
        child.write(text.encode() + b"\n")
        await child.drain()

    async def finish(self) -> None:
        """No more input; wait for its end. Unavailable if it failed."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        await self._reading
        code = await self._child.wait()
        if code != 0:
            raise Unavailable(f"{self.name} ended with exit code {code}:\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL: nothing in it can tidy up."""
        self._child.kill()

    async def stop(self) -> None:
        """End it in order, or by force after 15 seconds."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._child.wait(), STOP_SECONDS_MAX)
            except TimeoutError:
                self._child.kill()
                await self._child.wait()
        await self._reading


class Stage:
    """All processes of a run, stopped in the reverse order of their start. An async context manager."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._processes: list[Process] = []

    async def __aenter__(self) -> Stage:
        self._place.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            await process.stop()

    async def start(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start `python ARGUMENTS`; its log is NAME.log."""
        # One arithmetic thread each: several models share one small machine.
        extra = {"PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**_own_environment(), **extra, **(environment or {})},
            # Ctrl-C is for the driver, who ends the others in order.
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        process = Process(name, child, self._place / f"{name}.log")
        self._processes.append(process)
        return process


_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """In the child, before it becomes Python: a killed driver must not leave servers behind."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _own_environment() -> dict[str, str]:
    """Without settings of another server: this run has its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("YGGDRASIL_")}
