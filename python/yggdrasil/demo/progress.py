"""What the demonstration shows while it runs: a line for each event, and on a terminal live tables under
them.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

WIDTH: Final = 108


class Show:
    """The running picture. `console` records everything, for the picture of the end."""

    def __init__(self) -> None:
        terminal = Console()
        self.console = Console(record=True, width=None if terminal.is_terminal else WIDTH, highlight=False)
        self.started = time.monotonic()
        self.providers: dict[str, str] = {}
        self.jobs: Counter[tuple[str, str]] = Counter()
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
        )

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def event(self, text: str) -> None:
        """One line with its time."""
        self.console.print(f"[dim]{self.seconds():6.1f} s[/dim]  {text}")

    def bar(self, name: str, total: int) -> TaskID:
        """A new bar."""
        return self._bars.add_task(name, total=total, note="")

    def advance(self, bar: TaskID, steps: int, note: str) -> None:
        """Move a bar."""
        self._bars.update(bar, advance=steps, note=note)

    def provider_line(self, name: str, line: str) -> None:
        """A provider process said something."""
        word = line.split(" ", 1)[0].rstrip(":")
        if word in ("accepted", "done", "busy"):
            self.jobs[name, word] += 1
        if word in ("live", "offering", "lost"):
            self.providers[name] = {"live": "online", "offering": "selling", "lost": "reconnecting"}[word]

    def picture(self, path: Path) -> None:
        """Everything printed so far as an SVG that loads nothing from anywhere."""
        plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        plain = plain.replace(
            "Fira Code, monospace", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.console.save_svg(str(path), title="make demo", code_format=plain)

    def live(self) -> AbstractContextManager[Any]:
        """Redraw on a terminal; elsewhere the event lines are all."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self._picture, console=self.console, refresh_per_second=8, transient=True)

    def _picture(self) -> Group:
        table = Table(box=None, padding=(0, 2))
        for title in ("provider", "state", "accepted", "done", "busy"):
            table.add_column(title, justify="left" if title in ("provider", "state") else "right")
        for name, state in self.providers.items():
            shown = f"[red]{state}[/red]" if state == "killed" else state
            counts = [str(self.jobs[name, word]) for word in ("accepted", "done", "busy")]
            table.add_row(name, shown, *counts)
        return Group(table, self._bars)
