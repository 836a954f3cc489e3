"""The trial balance and the audit's chains on the command line, beside a running server or without one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from yggdrasil.audit.chain import Signing
from yggdrasil.audit.heads_file import HEADS_FILE
from yggdrasil.audit.verifying import read_kept, verify_all
from yggdrasil.config import Settings, load_keys
from yggdrasil.db.bootstrap import attach
from yggdrasil.db.store import AUDIT_KEPT
from yggdrasil.errors import ConfigurationError
from yggdrasil.kernel import System, SystemClock, SystemIds
from yggdrasil.payments.store_books import trial_balance

JOB: Final = "audit-verify"


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


async def verify(settings: Settings, heads: Sequence[Path], *, json: bool) -> int:
    """Verify every chain and every head; 0 if all are sound, else 1. `heads`: the files of all nodes; none:
    this node's own, if there is one. Errors: ConfigurationError, Unavailable."""
    keys, clock = load_keys(settings), SystemClock()
    if not heads:
        own = settings.audit_heads_file or settings.data_dir / HEADS_FILE
        heads = [own] if own.exists() else []
        if settings.audit_heads_file is not None and not heads:
            raise ConfigurationError(f"audit_heads_file: {own} is not there", field="audit_heads_file")
    # Before the database, so that no head in the file is younger than what is read there.
    kept = read_kept(heads)
    async with (
        attach(settings, keys, clock, SystemIds()) as database,
        database.transaction(System(JOB)) as tx,
    ):
        report = await verify_all(tx, Signing(keys.audit_signing), kept, uses_since=clock.now() - AUDIT_KEPT)
    if json:
        told = msgspec.to_builtins(report) | {"ok": report.ok, "files": [str(path) for path in heads]}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        return 0 if report.ok else 1
    for name in ("chains", "rows", "heads", "kept", "waiting"):
        sys.stdout.write(f"{name:<24}{getattr(report, name):>20,}\n")
    if not heads:
        sys.stdout.write("no file of heads: a chain that was cut off with its heads cannot be seen\n")
    for bad in report.bad:
        where = f"row {bad.number}" if bad.number else "outside its chain"
        sys.stdout.write(f"BAD  network {bad.network_id}  {where}: {bad.why}\n")
    sys.stdout.write("ok\n" if report.ok else "not ok\n")
    return 0 if report.ok else 1
