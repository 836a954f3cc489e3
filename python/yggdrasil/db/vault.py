"""Access to a database with a single login role and no scope of its own: Mimir's."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from yggdrasil import tracing
from yggdrasil.db.address import Address, Login
from yggdrasil.db.pool import RolePool
from yggdrasil.db.transaction import TransactionContext, Tx

MIMIR_ROLE = "ygg_mimir"


class VaultDatabase:
    """One pool.

    `async with vault.transaction() as tx:` follows the same rules as `Database`; `tx.scope` is None.
    """

    def __init__(self, pool: RolePool) -> None:
        self.pool = pool

    def transaction(self) -> AbstractAsyncContextManager[Tx]:
        opening = TransactionContext(self, self.pool, None, "RESET ALL; BEGIN")
        return opening if tracing.installed is None else tracing.transaction(opening, MIMIR_ROLE)

    async def close(self) -> None:
        await self.pool.close()


def open_pool(address: Address, role: str, password: str, *, connections_max: int = 10) -> VaultDatabase:
    """A vault as `role`. Nothing is opened before the first transaction."""
    return VaultDatabase(RolePool(address, Login(role, password), connections_max=connections_max))
