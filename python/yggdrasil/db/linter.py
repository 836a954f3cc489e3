"""The catalog linter: the rules of the schema, asked of the live catalog. One finding fails the build.

Row security has holes by design: keys and foreign keys bypass it, owners and SECURITY DEFINER bypass it, a
grant to PUBLIC or a forgotten table undoes it, statistics count what it hides. Every rule of `linter_rules`
closes one, and tests/db/test_linter.py opens each on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import asyncpg

from yggdrasil.db.address import Address, Login, connect
from yggdrasil.db.linter_rules import PARAMETERS, RULES
from yggdrasil.db.migrate import MAIN_OWNER, MAIN_ROLES, MIMIR_OWNER, MIMIR_ROLES

__all__ = ["MAIN_HOUSE", "MIMIR_HOUSE", "RULES", "Finding", "House", "lint", "lint_on"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One broken rule at one object."""

    rule: str
    object: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.object}: {self.detail}"


@dataclass(frozen=True, slots=True)
class House:
    """What a database may consist of. What is listed here is an exception or a border that somebody thought
    about; a test fails when a listed name is gone from the catalog.

    `tenant` names the schema whose keys start with network_id ("" for none); `reader` the role that may read
    every table ("" for none).
    """

    schemas: tuple[str, ...]
    owner: str
    roles: tuple[str, ...]
    tenant: str = ""
    reader: str = ""
    reach: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Role → the schemas in which it may hold a grant on a table."""
    open_policies: tuple[str, ...] = ()
    """`schema.table.policy`: asks for no scope, because what it guards belongs to no network."""
    global_keys: tuple[str, ...] = ()
    """`schema.index`: unique over all networks by something else than an id that the application draws."""
    scope_functions: tuple[str, ...] = ()
    """`schema.function`: may set the scope; `setter` alone may call it."""
    setter: str = ""
    scope_readers: dict[str, str] = field(default_factory=dict)
    """Function of `platform` → the one expression that it may be; policies may call these alone."""


_UUID: Final = "(NULLIF(current_setting('app.{0}'::text, true), ''::text))::uuid"
_TEXT: Final = "NULLIF(current_setting('app.{0}'::text, true), ''::text)"

MAIN_HOUSE: Final = House(
    schemas=("tenant", "identity", "platform", "jobs"),
    owner=MAIN_OWNER,
    roles=MAIN_ROLES,
    tenant="tenant",
    reader="ygg_system",
    reach={
        "ygg_network": ("tenant", "identity"),
        "ygg_identity": ("tenant", "identity"),
        "ygg_market": ("tenant", "platform"),
        "ygg_settle": ("tenant", "platform"),
        "ygg_system": ("tenant", "identity", "platform", "jobs"),
    },
    open_policies=(
        # Before a login nobody knows whose a row is; the rows are found by keyed hashes or random ids.
        "identity.login_flows.identity_all",
        "identity.login_limits.identity_all",
        "identity.hand_over_asks.identity_all",
        "identity.known_devices.identity_all",
        "identity.erasures.identity_all",
        "identity.revocations.identity_all",
        "identity.operators.identity_looks_up",
        # A person's own rows, in whichever of their networks: the session that ends may be of any.
        "tenant.hand_overs.identity_reads_own",
        "tenant.hand_overs.identity_erases_own",
        # What the router must know of everybody, and what it notes of its own work.
        "tenant.offers.offers_market_select",
        "platform.models.models_market_select",
        "platform.models.models_market_insert",
        "platform.models.models_market_update",
        "platform.canaries.canaries_market_insert",
        "platform.conversations.conversations_market_insert",
    ),
    global_keys=(
        "identity.login_limits_pkey",  # keyed hash of an address or a source
        "identity.known_devices_pkey",  # keyed hash of an address
        "platform.models_pkey",  # a model's name is public
        "platform.migrations_pkey",
        "platform.sandbox_charges_pkey",  # the charge's id as the gateway wants it
    ),
    scope_functions=(
        "platform.leave_scope",
        "platform.enter_scope",
        "platform.end_holds",
        "platform.admit_batch",
        "platform.finish_batch",
    ),
    setter="ygg_settle",
    scope_readers={
        "current_network": _UUID.format("network"),
        "current_user_id": _UUID.format("user"),
        "current_role_name": _TEXT.format("role"),
        "current_networks": f"(string_to_array({_TEXT.format('networks')}, ','::text))::uuid[]",
        "current_job": _TEXT.format("job"),
    },
)
MIMIR_HOUSE: Final = House(
    schemas=("vault", "platform"),
    owner=MIMIR_OWNER,
    roles=MIMIR_ROLES,
    reach={"ygg_mimir": ("vault",)},
    # One role, one service: what it may open is decided by keys, not by rows.
    open_policies=(
        "vault.subjects.subjects_mimir",
        "vault.fields.fields_mimir",
        "vault.addresses.addresses_mimir",
        "vault.flows.flows_mimir",
    ),
    global_keys=(
        "vault.addresses_pkey",  # the keyed blind index of an address: the one global UNIQUE there is
        "platform.migrations_pkey",
    ),
)


async def lint(address: Address, login: Login, house: House) -> list[Finding]:
    """All findings, sorted. `login` may be any role: the catalog is open to read; nothing is changed."""
    connection = await connect(address, login)
    try:
        return await lint_on(connection, house)
    finally:
        await connection.close()


async def lint_on(connection: asyncpg.Connection, house: House) -> list[Finding]:
    """The same, of what `connection` sees: within a transaction, what it has changed."""
    findings: list[Finding] = []
    for rule, sql in RULES.items():
        rows = await connection.fetch(
            PARAMETERS + sql,
            list(house.schemas),
            house.owner,
            list(house.roles),
            house.tenant,
            house.reader,
            [f"{role} {schema}" for role, schemas in house.reach.items() for schema in schemas],
            list(house.open_policies),
            list(house.global_keys),
            list(house.scope_functions),
            house.setter,
            [f"platform.{name} RETURN {body}" for name, body in house.scope_readers.items()],
        )
        findings += [Finding(rule, row[0], row[1]) for row in rows]
    return sorted(set(findings))
