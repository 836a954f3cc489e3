"""The end of the demonstration: what was bought and sold, one decision, the books, and whether they
balance.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yggdrasil.vedrfolnir.terminal import cents

Trade = Mapping[str, Any]
"""One side of a transaction, as REST shows it."""

PASSAGES_MIN: Final = 200
CHATS_MIN: Final = 20


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything the run is judged by."""

    bought: Sequence[Trade]
    sold: Mapping[str, Sequence[Trade]]
    wallets_microcents: Mapping[str, tuple[int, int]]
    """Buyer -> (topped up, left)."""
    earned_microcents: Mapping[str, int]
    """Selling network -> its earnings account."""
    balance: Mapping[str, int]
    devices: int
    providers: int
    networks: int
    texts: int
    chats: int
    seconds: float
    killed: str
    problems: list[str] = field(default_factory=list)

    def kind(self, kind: str) -> dict[str, int]:
        """Finished requests and tokens of one kind."""
        rows = [row for row in self.bought if row["kind"] == kind and row["state"] == "COMPLETED"]
        tokens = sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)
        return {"requests": len(rows), "tokens": tokens}

    def summed(self, part: str) -> int:
        """Micro-cents over all that was bought."""
        return sum(row[f"{part}_microcents"] for row in self.bought)

    @property
    def failovers(self) -> int:
        """Attempts that failed and were followed by one at another provider; a polite "busy" is none."""
        return sum(broken(row) for rows in self.sold.values() for row in rows)

    @property
    def lost(self) -> int:
        """Requests that the killed provider left behind."""
        return sum(broken(row) for row in self.sold.get(self.killed, ()))

    def document(self) -> dict[str, Any]:
        """build/demo.json."""
        return {
            "embeddings": self.kind("embeddings"),
            "chat": self.kind("chat"),
            "failovers": self.failovers,
            "devices": self.devices,
            "providers": self.providers,
            "networks": self.networks,
            "ledger": {
                name: self.balance[name] for name in ("sum_microcents", "clearing_microcents", "open_holds")
            },
            "cost_microcents": self.balance["cost_microcents"],
            "fee_microcents": self.balance["fee_microcents"],
            "earnings_microcents": self.balance["earnings_microcents"],
            "seconds": round(self.seconds, 1),
        }


def broken(row: Trade) -> bool:
    """Whether a provider's row is of an attempt that failed on it."""
    return bool(row["state"] == "FAILED" and row["error_code"] != "busy")


def judge(totals: Totals) -> list[str]:
    """What is wrong, in words; empty if the run proves what it should."""
    balance = totals.balance
    wrong = [
        f"{name} is {balance[name]}, not 0"
        for name in (
            "sum_microcents",
            "clearing_microcents",
            "open_holds",
            "held_microcents",
            "mismatched_balances",
        )
        if balance[name] != 0
    ]
    if balance["cost_microcents"] != balance["fee_microcents"] + balance["earnings_microcents"]:
        wrong.append("cost is not fee + earnings")
    if totals.summed("total") != balance["cost_microcents"]:
        wrong.append("the buyers' rows do not add up to the cost in the books")
    for name, (before, after) in totals.wallets_microcents.items():
        paid = sum(row["total_microcents"] for row in totals.bought if row["buyer"] == name)
        if before - after != paid:
            wrong.append(f"{name} paid {cents(before - after)} for requests that cost {cents(paid)}")
    for name, rows in totals.sold.items():
        if sum(row["earnings_microcents"] for row in rows) != totals.earned_microcents[name]:
            wrong.append(f"{name}'s rows do not add up to its earnings account")
    unfinished = [row for row in totals.bought if row["state"] != "COMPLETED"]
    if unfinished:
        wrong.append(f"{len(unfinished)} requests did not complete")
    if totals.failovers < 1 or totals.lost < 1:
        wrong.append("the killed provider left no request to another one")
    if totals.texts < PASSAGES_MIN or totals.kind("chat")["requests"] < CHATS_MIN:
        wrong.append(f"fewer than {PASSAGES_MIN} passages or {CHATS_MIN} chats")
    return wrong


def provider_table(totals: Totals) -> Table:
    """Per provider: work, money, time to the first byte."""
    table = Table(
        title="What each provider did",
        caption="latency: median time to the first byte; embeddings come whole",
    )
    for title in ("provider", "requests", "busy", "failed", "tokens", "cost", "fee", "earnings", "latency"):
        table.add_column(title, justify="left" if title == "provider" else "right")
    for name, rows in totals.sold.items():
        done = [row for row in rows if row["state"] == "COMPLETED"]
        latencies = [row["latency_ms"] for row in done if row["latency_ms"] is not None]
        table.add_row(
            f"{name} [red](killed)[/red]" if name == totals.killed else name,
            str(len(done)),
            str(sum(row["error_code"] == "busy" for row in rows)),
            str(sum(broken(row) for row in rows)),
            f"{sum(row['prompt_tokens'] + row['completion_tokens'] for row in done):,}",
            *(_money(done, part) for part in ("total", "fee", "earnings")),
            f"{statistics.median(latencies):,.0f} ms" if latencies else "-",
        )
    return table


def _money(rows: Sequence[Trade], part: str) -> str:
    return cents(sum(row[f"{part}_microcents"] for row in rows))


def decision_table(trade: Trade) -> Table:
    """How the provider of one request was chosen: the card that its requester can read."""
    card = trade["decision_card"]
    attempts = f"{trade['attempts']} attempts" if trade["attempts"] > 1 else "first attempt"
    table = Table(
        title=f"One decision: {trade['kind']} by {trade['model']}, {attempts}",
        caption=f"propensity {card['propensity']:.2f}, explored: {'yes' if card['explored'] else 'no'}, "
        f"gates that ruled offers out: {', '.join(card['gates_failed']) or 'none'}",
    )
    table.add_column("offer (a pseudonym)")
    for title in ("score", "band"):
        table.add_column(title, justify="right")
    table.add_column("parts of the chosen one")
    for candidate in card["candidates"]:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in candidate.get("parts", {}).items())
        mark = "[green]>[/green] " if candidate["chosen"] else "  "
        table.add_row(
            f"{mark}{candidate['offer']}", f"{candidate['score']:.3f}", str(candidate["band"]), parts
        )
    return table


def books_table(totals: Totals) -> Table:
    """The trial balance, as the auditor counts it in the database."""
    table = Table(title="Trial balance")
    table.add_column("account")
    table.add_column("micro-cents", justify="right")
    for name, value in totals.balance.items():
        table.add_row(name.removesuffix("_microcents").replace("_", " "), f"{value:,}")
    return table


def show(console: Console, totals: Totals, answer: tuple[str, str] | None) -> None:
    """Print the end of the run."""
    console.print()
    console.print(provider_table(totals))
    decided = max(totals.bought, key=lambda row: len(row["decision_card"]["candidates"]))
    console.print(decision_table(decided))
    console.print(books_table(totals))
    if answer is not None:
        console.print(f"[bold]{escape(answer[0])}[/bold]\n{escape(answer[1])}\n")
    work = ", ".join(
        f"{figures['requests']} {kind} requests with {figures['tokens']:,} tokens"
        for kind, figures in (("embeddings", totals.kind("embeddings")), ("chat", totals.kind("chat")))
    )
    console.print(f"{work}; {totals.failovers} failovers; {totals.seconds:.1f} s")
    for problem in totals.problems:
        console.print(f"[red]wrong:[/red] {escape(problem)}")
    if not totals.problems:
        console.print(
            "[green]The books balance: cost = fee + earnings, no hold is open, nobody paid twice.[/green]"
        )
