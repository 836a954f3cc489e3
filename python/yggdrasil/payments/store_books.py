"""The SQL of the audit: all books from one snapshot, under System."""

from __future__ import annotations

from yggdrasil.db import Tx
from yggdrasil.errors import LedgerError
from yggdrasil.payments.ledger import TrialBalance


async def trial_balance(tx: Tx) -> TrialBalance:
    """Every sum of the books from one snapshot; System scope. Reads all entries: an audit, not a hot path."""
    row = await tx.fetchrow(
        """
        WITH legs AS (
            SELECT network_id, transfer_id, account, kind, amount_microcents AS amount FROM tenant.entries
        ), local AS (
            SELECT count(*) AS broken FROM (
                SELECT FROM legs GROUP BY network_id, transfer_id HAVING sum(amount) <> 0
            ) b
        ), derived AS (
            SELECT network_id, account, sum(posted) AS posted, sum(held) AS held FROM (
                SELECT network_id, account, amount AS posted, 0 AS held FROM legs
                WHERE account IN ('wallet', 'earnings')
                UNION ALL
                SELECT network_id, 'wallet', 0, amount_microcents FROM tenant.holds WHERE state = 'pending'
            ) parts GROUP BY network_id, account
        ), compared AS (
            SELECT count(*) AS mismatched
            FROM tenant.balances b FULL JOIN derived d USING (network_id, account)
            WHERE coalesce(b.posted_microcents, 0) <> coalesce(d.posted, 0)
               OR coalesce(b.held_microcents, 0) <> coalesce(d.held, 0)
        ), keyed AS (
            SELECT h.network_id, h.key_id, p.period, -coalesce(sum(w.amount_microcents), 0) AS spent,
                coalesce(sum(h.amount_microcents) FILTER (WHERE h.state = 'pending'), 0) AS held
            FROM tenant.holds h CROSS JOIN LATERAL (VALUES ('total'), (h.key_month)) AS p (period)
            LEFT JOIN tenant.entries w ON w.network_id = h.network_id AND w.transfer_id = h.transfer_id
                AND w.account = 'wallet'
            WHERE h.key_id IS NOT NULL GROUP BY h.network_id, h.key_id, p.period
        ), keys AS (
            SELECT count(*) AS mismatched
            FROM tenant.key_spend s FULL JOIN keyed k USING (network_id, key_id, period)
            WHERE coalesce(s.spent_microcents, 0) <> coalesce(k.spent, 0)
               OR coalesce(s.held_microcents, 0) <> coalesce(k.held, 0)
        ), pending AS (
            SELECT count(*) AS holds, coalesce(sum(amount_microcents), 0) AS held
            FROM tenant.holds WHERE state = 'pending'
        )
        SELECT coalesce(sum(amount), 0) AS sum_microcents,
            coalesce(sum(amount) FILTER (WHERE account = 'clearing'), 0) AS clearing_microcents,
            (SELECT holds FROM pending) AS open_holds,
            (SELECT held FROM pending) AS held_microcents,
            (SELECT mismatched FROM compared) AS mismatched_balances,
            (SELECT mismatched FROM keys) AS mismatched_keys,
            coalesce(-sum(amount) FILTER (WHERE account = 'wallet' AND kind = 'settlement'), 0)
                AS cost_microcents,
            coalesce(sum(amount) FILTER (WHERE account = 'fee'), 0) AS fee_microcents,
            coalesce(sum(amount) FILTER (WHERE account = 'earnings' AND kind = 'settlement'), 0)
                AS earnings_microcents,
            (SELECT broken FROM local) AS unbalanced_transfers,
            coalesce(sum(amount) FILTER (WHERE account = 'wallet'), 0) AS wallets_microcents,
            coalesce(sum(amount) FILTER (WHERE account = 'gateway'), 0) AS gateway_microcents
        FROM legs
        """
    )
    if row is None:
        raise LedgerError("the books were not answered")
    return TrialBalance(**{name: int(value) for name, value in row.items()})
