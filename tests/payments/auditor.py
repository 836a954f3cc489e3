"""An audit of the books from the rows alone: it trusts neither the ledger's SQL nor its trial balance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from yggdrasil.db import Database
from yggdrasil.kernel import PLATFORM_NETWORK, System

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Books:
    """What is in the books, by network; amounts in micro-cents."""

    posted: dict[tuple[UUID, str], int]
    held: dict[UUID, int]
    hold_states: dict[UUID, str]
    fees: int
    gateway: int


async def audit(database: Database) -> Books:
    """Raise AssertionError, naming the invariant, if any is broken."""
    async with database.transaction(System("test-auditor")) as tx:
        entries = await tx.fetch("SELECT * FROM tenant.entries")
        holds = await tx.fetch("SELECT * FROM tenant.holds")
        balances = await tx.fetch("SELECT * FROM tenant.balances")
        payments = await tx.fetch("SELECT * FROM tenant.payments")
    return audit_rows(entries, holds, balances, payments)


def audit_rows(entries: Rows, holds: Rows, balances: Rows, payments: Rows) -> Books:
    """`audit` of rows already read."""
    local: dict[tuple[UUID, UUID], int] = defaultdict(int)
    accounts: dict[tuple[UUID, str], int] = defaultdict(int)
    transfers: dict[UUID, list[tuple[UUID, str, int]]] = defaultdict(list)
    for entry in entries:
        amount = entry["amount_microcents"]
        local[entry["network_id"], entry["transfer_id"]] += amount
        accounts[entry["network_id"], entry["account"]] += amount
        transfers[entry["transfer_id"]].append((entry["network_id"], entry["account"], amount))
    assert not any(local.values()), "I1: an entry does not sum to zero in its network"
    assert sum(accounts.values()) == 0, "I1: the books do not sum to zero"
    clearing = sum(amount for (_, account), amount in accounts.items() if account == "clearing")
    assert clearing == 0, "I1: clearing does not sum to zero over all networks"

    held: dict[UUID, int] = defaultdict(int)
    for hold in holds:
        assert (hold["ended_at"] is None) == (hold["state"] == "pending"), "I3: an end without its time"
        assert hold["amount_microcents"] > 0, "I2: a hold of nothing"
        if hold["state"] == "pending":
            held[hold["network_id"]] += hold["amount_microcents"]

    rows = {(row["network_id"], row["account"]): row for row in balances}
    limited = {key for key in accounts if key[1] in ("wallet", "earnings")}
    assert limited <= set(rows), "an account with entries and no balance"
    for (network, account), row in rows.items():
        expected = held[network] if account == "wallet" else 0
        assert row["posted_microcents"] == accounts[network, account], "a balance that is not its entries"
        assert row["held_microcents"] == expected, "a balance that is not its holds"
        assert 0 <= row["held_microcents"] <= row["posted_microcents"], "I2: less than nothing is available"
    assert {network for network, amount in held.items() if amount} <= {n for n, a in rows if a == "wallet"}

    kinds = {entry["transfer_id"]: entry["kind"] for entry in entries}
    for transfer_id, legs in transfers.items():
        by_account: Counter[str] = Counter()
        for network, account, amount in legs:
            by_account[account] += amount
            assert account != "fee" or network == PLATFORM_NETWORK, "a fee outside the platform"
        if kinds[transfer_id] == "settlement":
            assert -by_account["wallet"] == by_account["fee"] + by_account["earnings"], (
                "I5: cost is not fee + earnings"
            )
            payers = {network for network, account, _ in legs if account == "wallet"}
            assert all(n not in payers for n, account, _ in legs if account == "earnings"), (
                "a network paid itself"
            )
    ended_posted = sum(hold["state"] == "posted" for hold in holds)
    settlements = sum(entry["kind"] == "settlement" and entry["account"] == "wallet" for entry in entries)
    assert ended_posted == settlements, "I4: not one settlement for each posted hold"

    succeeded = {
        row["payment_id"]: row["amount_microcents"] for row in payments if row["state"] == "succeeded"
    }
    topups = {key for key, kind in kinds.items() if kind == "topup"}
    assert topups == set(succeeded), "I4: not one posting for each top-up that succeeded"
    for payment_id, amount in succeeded.items():
        paid_in = sum(leg[2] for leg in transfers[payment_id] if leg[1] == "wallet")
        assert paid_in == amount, "I10: a top-up that is not what was charged"
    return Books(
        posted={key: accounts[key] for key in limited},
        held=dict(held),
        hold_states={hold["hold_id"]: hold["state"] for hold in holds},
        fees=sum(amount for (_, account), amount in accounts.items() if account == "fee"),
        gateway=accounts[PLATFORM_NETWORK, "gateway"],
    )
