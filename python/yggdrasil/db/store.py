"""SQL over the foundation's own tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from yggdrasil.db.transaction import Tx

AUDIT_RETENTION: Final = "audit-retention"
"""The one job whose scope may remove audit rows."""
AUDIT_KEPT: Final = timedelta(days=90)
PRUNE_ROWS_MAX: Final = 10_000


async def prune_audit(tx: Tx, before: datetime, *, rows_max: int = PRUNE_ROWS_MAX) -> int:
    """Remove audit rows older than `before`, the oldest first, at most `rows_max`; how many went.

    Needs System(AUDIT_RETENTION): under any other scope no row can be removed. Call again while it returns
    `rows_max`.
    """
    status = await tx.execute(
        "DELETE FROM jobs.audit WHERE id IN (SELECT id FROM jobs.audit WHERE at < $1 ORDER BY at LIMIT $2)",
        before,
        rows_max,
    )
    return int(status.removeprefix("DELETE "))
