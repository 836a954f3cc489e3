"""The machine: which core a process runs on, and what processes have used, read from /proc."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = _CORES[0]
CLIENT_CORE: Final = _CORES[-1]
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started inside run on `core`, and so do theirs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def described() -> str:
    """The processor and how it was shared, for the head of the report."""
    model = "unknown processor"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    shared = "; server and client share one core" if SERVER_CORE == CLIENT_CORE else ""
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {len(_CORES)} cores, {system}{shared}"


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                found.setdefault(parent, []).append(int(entry.name))
    return found


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, without it."""
    children, below, todo = _children(), [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            below.append(child)
            todo.append(child)
    return below


def cpu_seconds(*pids: int) -> float:
    """User and system time of these processes so far; one that is gone counts nothing."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
    return total


def memory_mib(*pids: int) -> float:
    """Proportional set size: a page that several processes share is counted once in all."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def resident_mib(pid: int) -> float:
    """Resident set size of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Meter:
    """CPU time of named groups of processes since it was made."""

    groups: dict[str, list[int]]

    def __post_init__(self) -> None:
        self._before = {name: cpu_seconds(*pids) for name, pids in self.groups.items()}

    def microseconds_each(self, count: int) -> dict[str, float]:
        """Per request, when there were `count`."""
        return {
            name: round((cpu_seconds(*pids) - self._before[name]) * 1e6 / max(count, 1))
            for name, pids in self.groups.items()
        }
