"""All SQL of memberships and invitations. `tx` first; its scope says what can be seen.

Memberships change under Identity(network, user) of the member; who asks is read beside it. Changes of one
network go one by one (`lock_members`), so that what was read of it still holds when it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.kernel import Role

_MEMBER: Final = "network_id, user_id, role, epoch, name, created_at"
_INVITATION: Final = (
    "network_id, invitation_id, address_key, secret_digest, role, name, invited_by, created_at, expires_at"
)


@dataclass(frozen=True, slots=True)
class Member:
    """A membership. `name`: what the member calls the network; the founder has none."""

    network_id: UUID
    user_id: UUID
    role: Role
    epoch: int
    name: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredInvitation:
    """An invitation that has not ended."""

    network_id: UUID
    invitation_id: UUID
    address_key: bytes = field(repr=False)
    secret_digest: bytes = field(repr=False)
    role: Role
    name: str
    invited_by: UUID
    created_at: datetime
    expires_at: datetime


def _member(row: Any) -> Member:
    return Member(**(dict(row) | {"role": Role(row["role"])}))


def _invitation(row: Any) -> StoredInvitation:
    return StoredInvitation(**(dict(row) | {"role": Role(row["role"])}))


# Members


async def lock_members(tx: Tx, network_id: UUID) -> None:
    """One change of a network's members at a time, until this transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 18))", f"members:{network_id}")


async def select_member(tx: Tx, network_id: UUID, user_id: UUID) -> Member | None:
    row = await tx.fetchrow(
        f"SELECT {_MEMBER} FROM identity.memberships WHERE network_id = $1 AND user_id = $2",  # noqa: S608
        network_id,
        user_id,
    )
    return None if row is None else _member(row)


async def select_members(tx: Tx, network_id: UUID, limit: int) -> list[Member]:
    """The network's, the owner and then the oldest first; under Network, what the role lets be seen."""
    rows = await tx.fetch(
        f"SELECT {_MEMBER} FROM identity.memberships WHERE network_id = $1"  # noqa: S608
        " ORDER BY role <> 'owner', created_at, user_id LIMIT $2",
        network_id,
        limit,
    )
    return [_member(row) for row in rows]


async def select_memberships(tx: Tx, user_id: UUID, limit: int) -> list[Member]:
    """The user's, the home network and then the oldest first; under Identity(user)."""
    rows = await tx.fetch(
        f"SELECT {_MEMBER} FROM identity.memberships WHERE user_id = $1"  # noqa: S608
        " ORDER BY role <> 'owner', created_at, network_id LIMIT $2",
        user_id,
        limit,
    )
    return [_member(row) for row in rows]


async def insert_member(tx: Tx, member: Member, invited_by: UUID, accepted_key: bytes) -> None:
    await tx.execute(
        "INSERT INTO identity.memberships (network_id, user_id, role, epoch, name, created_at, invited_by,"
        " accepted_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        member.network_id,
        member.user_id,
        member.role.value,
        member.epoch,
        member.name,
        member.created_at,
        invited_by,
        accepted_key,
    )


async def update_role(tx: Tx, network_id: UUID, user_id: UUID, role: Role) -> int:
    """Another role; the membership's new epoch."""
    epoch: int = await tx.fetchval(
        "UPDATE identity.memberships SET epoch = epoch + 1, role = $3"
        " WHERE network_id = $1 AND user_id = $2 RETURNING epoch",
        network_id,
        user_id,
        role.value,
    )
    return epoch


async def delete_member(tx: Tx, network_id: UUID, user_id: UUID) -> None:
    await tx.execute(
        "DELETE FROM identity.memberships WHERE network_id = $1 AND user_id = $2", network_id, user_id
    )


async def last_epoch(tx: Tx, network_id: UUID, user_id: UUID) -> int:
    """Where a membership begins that comes after another, whose tokens are refused until they are over."""
    epoch: int = await tx.fetchval(
        "SELECT coalesce(max(epoch), 0) FROM identity.revocations WHERE network_id = $1 AND user_id = $2",
        network_id,
        user_id,
    )
    return epoch


async def lock_account(tx: Tx, user_id: UUID) -> bool:
    """Whether the account is active; it stays so until this transaction ends."""
    status = await tx.fetchval("SELECT status FROM identity.accounts WHERE user_id = $1 FOR UPDATE", user_id)
    return bool(status == "active")


async def end_sessions(tx: Tx, network_id: UUID, user_id: UUID, now: datetime) -> None:
    """The user's sessions in this network."""
    await tx.execute(
        "UPDATE identity.sessions SET revoked_at = $3, revoked_for = 'removed'"
        " WHERE network_id = $1 AND user_id = $2 AND revoked_at IS NULL",
        network_id,
        user_id,
        now,
    )


async def revoke_keys(tx: Tx, network_id: UUID, user_id: UUID, now: datetime) -> None:
    """The user's API keys in this network."""
    await tx.execute(
        "UPDATE tenant.api_keys SET revoked_at = $3"
        " WHERE network_id = $1 AND user_id = $2 AND revoked_at IS NULL",
        network_id,
        user_id,
        now,
    )


# Invitations


async def insert_invitation(tx: Tx, made: StoredInvitation) -> None:
    await tx.execute(
        f"INSERT INTO tenant.invitations ({_INVITATION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",  # noqa: S608
        made.network_id,
        made.invitation_id,
        made.address_key,
        made.secret_digest,
        made.role.value,
        made.name,
        made.invited_by,
        made.created_at,
        made.expires_at,
    )


async def select_invitations(tx: Tx, network_id: UUID, now: datetime, limit: int) -> list[StoredInvitation]:
    """The open ones, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_INVITATION} FROM tenant.invitations"  # noqa: S608
        " WHERE network_id = $1 AND ended_at IS NULL AND expires_at > $2"
        " ORDER BY created_at, invitation_id LIMIT $3",
        network_id,
        now,
        limit,
    )
    return [_invitation(row) for row in rows]


async def select_invitation(
    tx: Tx, network_id: UUID, invitation_id: UUID, now: datetime
) -> StoredInvitation | None:
    """An open one."""
    row = await tx.fetchrow(
        f"SELECT {_INVITATION} FROM tenant.invitations WHERE network_id = $1 AND invitation_id = $2"  # noqa: S608
        " AND ended_at IS NULL AND expires_at > $3",
        network_id,
        invitation_id,
        now,
    )
    return None if row is None else _invitation(row)


async def count_invitations(tx: Tx, network_id: UUID, now: datetime, since: datetime) -> tuple[int, int]:
    """How many are open, and how many were made since then."""
    row = await tx.fetchrow(
        "SELECT count(*) FILTER (WHERE ended_at IS NULL AND expires_at > $2),"
        " count(*) FILTER (WHERE created_at > $3) FROM tenant.invitations WHERE network_id = $1",
        network_id,
        now,
        since,
    )
    return (row[0], row[1]) if row is not None else (0, 0)


async def end_invitation(tx: Tx, network_id: UUID, invitation_id: UUID, reason: str, now: datetime) -> bool:
    """False if it had ended before."""
    status = await tx.execute(
        "UPDATE tenant.invitations SET ended_at = $3, ended_for = $4"
        " WHERE network_id = $1 AND invitation_id = $2 AND ended_at IS NULL",
        network_id,
        invitation_id,
        now,
        reason,
    )
    return status.endswith(" 1")


async def revoke_invitations(
    tx: Tx,
    network_id: UUID,
    now: datetime,
    *,
    address_keys: Sequence[bytes] | None = None,
    invited_by: UUID | None = None,
) -> list[UUID]:
    """Those that have not ended, to these addresses, or by this member; which they were."""
    rows = await tx.fetch(
        "UPDATE tenant.invitations SET ended_at = $2, ended_for = 'revoked'"
        " WHERE network_id = $1 AND ended_at IS NULL"
        " AND ($3::bytea[] IS NULL OR address_key = ANY ($3)) AND ($4::uuid IS NULL OR invited_by = $4)"
        " RETURNING invitation_id",
        network_id,
        now,
        None if address_keys is None else list(address_keys),
        invited_by,
    )
    return [row["invitation_id"] for row in rows]


async def delete_old_invitations(tx: Tx, before: datetime) -> None:
    """System("invitation-retention")."""
    await tx.execute("DELETE FROM tenant.invitations WHERE expires_at < $1", before)
