"""Processes of a run: started on a core, waited for, ended by their own id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from benches.client import BenchError
from benches.machine import on_core

START_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 15.0
# Whoever forbids byte code makes LiteLLM compile a module anew in every request: the peers get theirs.
_ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    core: int,
    log: Path,
    ready_url: str | None = None,
    ready_text: str | None = None,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[int]:
    """The pid of `command`, once `ready_url` answers 200 or its log holds `ready_text`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out, on_core(core):
        process = subprocess.Popen(  # noqa: ASYNC220, S603  our own commands, and nobody waits for this loop
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=out,
            stderr=out,
            env={**_ENVIRONMENT, **(environment or {})},
        )
    try:
        if stdin is not None and process.stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        await _ready(process, log, ready_url, ready_text)
        yield process.pid
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _ready(
    process: subprocess.Popen[bytes], log: Path, ready_url: str | None, ready_text: str | None
) -> None:
    try:
        async with asyncio.timeout(START_SECONDS_MAX), httpx.AsyncClient(trust_env=False) as http:
            while process.poll() is None:
                if ready_url is not None:
                    with contextlib.suppress(httpx.TransportError):
                        if (await http.get(ready_url)).is_success:
                            return
                elif ready_text is None or ready_text in _text(log):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    raise BenchError(f"{log.stem} did not come up:\n{_text(log)[-4000:]}")


def _text(log: Path) -> str:
    return log.read_text(errors="replace")
