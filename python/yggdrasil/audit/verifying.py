"""Every chain of a database against its hashes, its signed heads, and those that were kept outside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from yggdrasil.audit import store_verify as store
from yggdrasil.audit.chain import Head, Signing, Verifier
from yggdrasil.audit.events import EventKind
from yggdrasil.audit.heads_file import LINES_MAX, read
from yggdrasil.db import Tx
from yggdrasil.errors import ConfigurationError
from yggdrasil.kernel import PLATFORM_NETWORK

PAGE: Final = 1_000
BAD_MAX: Final = 100
"""Findings that are listed; one is as bad as a hundred."""


class Finding(msgspec.Struct, frozen=True):
    """What is not as it was written. `number`: the network's first bad row; 0 for what is in no chain."""

    network_id: UUID
    number: int
    why: str


class Report(msgspec.Struct, kw_only=True):
    """`rows` and `heads` of `chains` that are sound as far as they were read; `kept`: heads in the files;
    `waiting`: events that are not linked yet."""

    chains: int = 0
    rows: int = 0
    heads: int = 0
    kept: int = 0
    waiting: int = 0
    bad: list[Finding] = []

    @property
    def ok(self) -> bool:
        return not self.bad

    def find(self, network_id: UUID, number: int, why: str) -> None:
        """One more finding."""
        if len(self.bad) < BAD_MAX:
            self.bad.append(Finding(network_id, number, why))


def read_kept(paths: Iterable[Path]) -> dict[UUID, list[Head]]:
    """The heads of all files by network. Errors: ConfigurationError."""
    kept: dict[UUID, list[Head]] = defaultdict(list)
    for count, head in enumerate((one for path in paths for one in read(path)), start=1):
        if count > LINES_MAX:
            raise ConfigurationError(f"heads: over {LINES_MAX} lines: verify the files one by one")
        kept[head.network_id].append(head)
    return kept


async def verify_all(
    tx: Tx, signing: Signing, kept: dict[UUID, list[Head]], *, uses_since: datetime
) -> Report:
    """Read everything, at one moment of the database; `kept` must have been read before. Uses of System are
    there from `uses_since` on. Under System; `tx` must be new."""
    await store.freeze(tx)
    report = Report(kept=sum(map(len, kept.values())), waiting=await store.count_waiting(tx))
    seen: set[UUID] = set()
    after: UUID | None = None
    while networks := await store.select_networks(tx, after, PAGE):
        after = networks[-1]
        for network_id in networks:
            seen.add(network_id)
            await _verify_one(tx, Verifier(network_id, signing.public, kept.get(network_id, ())), report)
    for network_id in sorted(set(kept) - seen):
        await _verify_one(tx, Verifier(network_id, signing.public, kept[network_id]), report)
    for network_id, event_id, why in await store.select_strays(tx, BAD_MAX):
        report.find(network_id, 0, f"event {event_id} {why}")
    kind = EventKind.SCOPE_CROSSED
    for one in await store.select_missing_uses(tx, PLATFORM_NETWORK, kind, uses_since):
        report.find(
            PLATFORM_NETWORK,
            0,
            f"event {one['event_id']} counted {one['uses']} uses of System by {one['job']},"
            f" and {one['found']} are there",
        )
    return report


async def _verify_one(tx: Tx, verifier: Verifier, report: Report) -> None:
    last = 0
    while verifier.bad is None:
        rows = await store.select_rows(tx, verifier.network_id, last, PAGE)
        if not rows:
            break
        upto = rows[-1]["number"]
        verifier.page(rows, await store.select_heads(tx, verifier.network_id, last, upto, None))
        last = upto
    bad = verifier.finish(await store.select_heads(tx, verifier.network_id, last, None, PAGE))
    report.chains += 1
    report.rows += verifier.rows
    report.heads += verifier.heads
    if bad is not None:
        report.find(bad.network_id, bad.number, bad.why)
