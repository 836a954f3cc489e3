"""The trial balance on the command line, beside a running server or without one."""

from __future__ import annotations

import sys

import msgspec

from yggdrasil.config import Settings, load_keys
from yggdrasil.db.bootstrap import attach
from yggdrasil.kernel import System, SystemClock, SystemIds
from yggdrasil.payments.store_books import trial_balance


async def audit(settings: Settings, *, json: bool) -> int:
    """Print the balance; 0 if the books balance, else 1. Errors: ConfigurationError, Unavailable."""
    async with (
        attach(settings, load_keys(settings), SystemClock(), SystemIds()) as database,
        database.transaction(System("trial-balance")) as tx,
    ):
        balance = await trial_balance(tx)
    fields = msgspec.to_builtins(balance)
    if json:
        sys.stdout.write(msgspec.json.encode(fields).decode() + "\n")
    else:
        for name, value in fields.items():
            sys.stdout.write(f"{name.replace('_', ' '):<24}{value:>20,}\n")
    return 0 if balance.sound else 1
