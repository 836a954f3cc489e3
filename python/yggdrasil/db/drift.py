"""Table classes against the live catalog: a column that exists on one side only, or with another type,
is drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from piccolo.columns import Array, Column
from piccolo.table import Table

import yggdrasil.db.engine  # noqa: F401  names the engine that column types are written for
from yggdrasil.db.address import Address, Login, connect

# What Piccolo calls a type, and what the catalog does, of a domain the type below it. Varchar stands for
# text: lengths are CHECKs here.
_CATALOG_TYPES: Final = {
    "BIGINT": "bigint",
    "BOOLEAN": "boolean",
    "BYTEA": "bytea",
    "DOUBLE PRECISION": "double precision",
    "INTEGER": "integer",
    "JSONB": "jsonb",
    "REAL": "real",
    "SMALLINT": "smallint",
    "TEXT": "text",
    "TIMESTAMPTZ": "timestamp with time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "UUID": "uuid",
    "VARCHAR": "text",
}

_COLUMNS: Final = """
    SELECT a.attname, format_type(coalesce(nullif(y.typbasetype, 0), y.oid), a.atttypmod) AS type,
        NOT a.attnotnull AS nullable
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_type y ON y.oid = a.atttypid
    WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r',
    'p')"""


async def drift(address: Address, login: Login, tables: Sequence[type[Table]]) -> list[str]:
    """One line for each difference; empty when the classes tell the truth."""
    connection = await connect(address, login)
    try:
        differences: list[str] = []
        for table in tables:
            meta = table._meta  # noqa: SLF001  Piccolo keeps a table's name and columns there
            schema, name = meta.schema or "public", meta.tablename
            rows = await connection.fetch(_COLUMNS, schema, name)
            differences += _compare(f"{schema}.{name}", meta.columns, {row["attname"]: row for row in rows})
    finally:
        await connection.close()
    return differences


def _compare(name: str, columns: Sequence[Column], live: dict[str, dict[str, object]]) -> list[str]:
    if not live:
        return [f"{name}: no such table"]
    found: list[str] = []
    for column in columns:
        column_name = column._meta.db_column_name  # noqa: SLF001  as above
        row = live.pop(column_name, None)
        if row is None:
            found.append(f"{name}.{column_name}: not in the database")
            continue
        expected = _catalog_type(column)
        if row["type"] != expected:
            found.append(f"{name}.{column_name}: {expected} in the class, {row['type']} in the database")
        if row["nullable"] != column._meta.null:  # noqa: SLF001  as above
            found.append(f"{name}.{column_name}: nullable is {column._meta.null} in the class")  # noqa: SLF001
    found += [f"{name}.{left}: not in the class" for left in sorted(live)]
    return found


def _catalog_type(column: Column) -> str:
    if isinstance(column, Array):
        return f"{_catalog_type(column.base_column)}[]"
    written = "UUID" if column.column_type == "UUID" else column.column_type.split("(")[0]
    return _CATALOG_TYPES.get(written.upper(), written.lower())
