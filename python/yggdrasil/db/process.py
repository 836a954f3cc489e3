"""The thread that spawns, the owner's lock, and what a killed PostgreSQL leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, Final

from yggdrasil.errors import ConfigurationError

LINGER_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.02


class Spawner:
    """A thread that lives as long as the process: PR_SET_PDEATHSIG fires when the spawning *thread* ends."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._mutex = threading.Lock()
        self._pid = 0

    def call(self, function: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._mutex:
            if self._thread is None or self._pid != os.getpid():  # a fork has no threads
                self._calls = queue.SimpleQueue()
                self._thread = threading.Thread(
                    target=self._work, args=(self._calls,), name="postgres-parent", daemon=True
                )
                self._pid = os.getpid()
                self._thread.start()
        future: Future[Any] = Future()
        self._calls.put((function, future))
        return future.result()  # type: ignore[no-any-return]

    @staticmethod
    def _work(calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
        while True:
            function, future = calls.get()
            try:
                future.set_result(function())
            except BaseException as error:  # handed to the caller
                future.set_exception(error)


SPAWNER: Final = Spawner()


def take_lock(path: Path) -> IO[str]:
    """One owner of a directory at a time; the kernel lets go when we die."""
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise ConfigurationError(
            f"data_dir: another process uses the embedded database in {path.parent}: "
            "stop it, or choose another data_dir",
            field="data_dir",
        ) from None
    return handle


def clear_stale(data: Path) -> None:
    """After `kill -9` a postmaster.pid stays behind, and for a moment processes of the old server.

    A dead pid is PostgreSQL's own business (it also checks the old shared memory). A pid that a stranger has
    got since
    would make it refuse for ever: that file goes, once nobody works in the data directory any more.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    deadline = time.monotonic() + LINGER_SECONDS_MAX
    while left := _working_in(data):
        if time.monotonic() > deadline:
            for each in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGQUIT)
            deadline += LINGER_SECONDS_MAX
        time.sleep(POLL_SECONDS)
    if Path(f"/proc/{pid}").exists():
        pid_file.unlink(missing_ok=True)


def _working_in(data: Path) -> list[int]:
    """Processes whose working directory is the data directory: PostgreSQL's, by its own habit."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == data:
                    found.append(int(entry.name))
    return found


def tail(path: Path) -> str:
    """The end of a log, for a message."""
    try:
        return path.read_bytes()[-600:].decode(errors="replace")
    except OSError:
        return ""
