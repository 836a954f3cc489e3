"""The only way to the database: scopes, transactions, migrations, the embedded server."""

from yggdrasil.db.transaction import Database, Tx
from yggdrasil.db.vault import VaultDatabase

__all__ = ["Database", "Tx", "VaultDatabase"]
