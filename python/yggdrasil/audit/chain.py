"""The chain: how a row is hashed, how its end is signed, and what a verifier finds. Pure.

docs/audit.md has the format for those who write their own verifier.

A row is one event with its link, by column. Its hash covers every column but the hash itself, typed and with
lengths, so that no two different rows are the same bytes; NULL is a type of its own. `format` names the
columns: a column that a later migration adds belongs to the next format, and must be NULL in older rows, for
their hashes do not cover it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from yggdrasil.keys import KeyRing

FORMAT: Final = 1
"""What is written now."""
FORMATS: Final[dict[int, tuple[str, ...]]] = {
    1: (
        "network_id",
        "number",
        "event_id",
        "format",
        "previous_hash",
        "kind",
        "actor_kind",
        "actor_id",
        "user_id",
        "subject_kind",
        "subject_id",
        "detail",
        "at",
    )
}
"""The columns that `hash` covers, in order."""
HEAD_COLUMNS: Final = ("network_id", "number", "hash", "at", "key_id")
"""The columns that `signature` covers, in order."""
_ROW_LABEL: Final = b"yggdrasil audit row\0"
_HEAD_LABEL: Final = b"yggdrasil audit head\0"
_GENESIS_LABEL: Final = b"yggdrasil audit genesis\0"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ended at a moment, signed: nothing up to `number` can change without being found."""

    network_id: UUID
    number: int
    hash: bytes
    at: datetime
    key_id: str
    signature: bytes = field(repr=False)

    def message(self) -> bytes:
        """What is signed."""
        return _HEAD_LABEL + encode(HEAD_COLUMNS, {name: getattr(self, name) for name in HEAD_COLUMNS})


def to_head(row: Row) -> Head:
    """From a row of the database."""
    return Head(
        row["network_id"], row["number"], row["hash"], row["at"], row["key_id"], bytes(row["signature"])
    )


class Signing:
    """The ring `audit_signing`: its first key signs, all of them verify."""

    def __init__(self, ring: KeyRing) -> None:
        self._key_id = ring.current.key_id
        self._private = Ed25519PrivateKey.from_private_bytes(ring.current.secret)
        self.public: dict[str, Ed25519PublicKey] = {
            key.key_id: Ed25519PrivateKey.from_private_bytes(key.secret).public_key() for key in ring.keys
        }

    def sign(self, network_id: UUID, number: int, digest: bytes, at: datetime) -> Head:
        """The head of a chain that ends with row `number`, whose hash is `digest`."""
        bare = Head(network_id, number, digest, at, self._key_id, b"")
        return Head(network_id, number, digest, at, self._key_id, self._private.sign(bare.message()))


def signed(head: Head, public: Mapping[str, Ed25519PublicKey]) -> bool:
    """Whether a key of ours signed this head."""
    key = public.get(head.key_id)
    if key is None:
        return False
    try:
        key.verify(head.signature, head.message())
    except InvalidSignature:
        return False
    return True


def encode(columns: Sequence[str], row: Row) -> bytes:
    """The number of columns, then each column's name and value. Lengths are 4 bytes, big-endian."""
    parts = [len(columns).to_bytes(4, "big")]
    for name in columns:
        parts += (_sized(name.encode()), _value(row.get(name)))
    return b"".join(parts)


def _value(value: object) -> bytes:
    """A letter for the type, a length, the bytes. Errors: TypeError for a type that no column has."""
    match value:
        case None:
            return b"-"
        case UUID():
            return b"u" + _sized(value.bytes)
        case str():
            return b"s" + _sized(value.encode())
        case bytes():
            return b"b" + _sized(value)
        case datetime():
            return b"t" + _sized(((value - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True))
        case int() if not isinstance(value, bool):
            return b"i" + _sized(value.to_bytes(8, "big", signed=True))
        case _:
            raise TypeError(f"no column of the audit holds a {type(value).__name__}")


def _sized(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def genesis(network_id: UUID) -> bytes:
    """The `previous_hash` of a chain's first row."""
    return hashlib.sha256(_GENESIS_LABEL + network_id.bytes).digest()


def row_hash(row: Row) -> bytes:
    """SHA-256 over the columns of the row's format. Errors: KeyError for a format that there is not."""
    return hashlib.sha256(_ROW_LABEL + encode(FORMATS[row["format"]], row)).digest()


@dataclass(frozen=True, slots=True)
class Bad:
    """The first row of a chain that is not what was written there, and why it is known."""

    network_id: UUID
    number: int
    why: str


@dataclass(slots=True)
class Verifier:
    """Reads one chain from its first row to its last, in pages. `exported`: heads of this chain that were
    kept outside of the database. After the first bad row nothing more is looked at."""

    network_id: UUID
    public: Mapping[str, Ed25519PublicKey]
    exported: Iterable[Head] = ()
    bad: Bad | None = None
    rows: int = 0
    heads: int = 0
    _hash: bytes = field(init=False, repr=False)
    _signed_to: int = 0
    _kept: dict[int, list[Head]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._hash = genesis(self.network_id)
        self._kept = defaultdict(list)
        for head in self.exported:
            self._kept[head.number].append(head)

    def page(self, rows: Sequence[Row], heads: Iterable[Head]) -> None:
        """The next rows, by number, and all heads of the database that lie among them."""
        among: dict[int, list[Head]] = defaultdict(list)
        for head in heads:
            among[head.number].append(head)
        for row in rows:
            if self.bad is None:
                self._take(row, among.pop(row["number"], []))
        if among:
            self._beyond(min(among))

    def finish(self, heads: Iterable[Head] = ()) -> Bad | None:
        """After the last row: `heads` are those of the database that lie beyond it. The first bad row."""
        beyond = [head.number for head in heads] + list(self._kept)
        if beyond:
            self._beyond(max(beyond))
        if self._signed_to < self.rows:
            self._say(self._signed_to + 1, "no head is signed from here on")
        return self.bad

    def _beyond(self, number: int) -> None:
        self._say(self.rows + 1, f"missing, but a head of row {number} is there")

    def _say(self, number: int, why: str) -> None:
        if self.bad is None:
            self.bad = Bad(self.network_id, number, why)

    def _take(self, row: Row, heads: Sequence[Head]) -> None:
        number = self.rows + 1
        why = self._wrong(row, number)
        if why is None:
            why = self._wrong_heads(row, heads, self._kept.pop(number, []))
        if why is not None:
            self._say(number, why)
            return
        self.rows = number
        self._hash = row["hash"]
        if heads:
            self.heads += len(heads)
            self._signed_to = number

    def _wrong(self, row: Row, number: int) -> str | None:
        columns = FORMATS.get(row["format"])
        if row["number"] != number:
            return f"the row found here is number {row['number']}"
        if row["network_id"] != self.network_id:
            return "the row belongs to another network"
        if columns is None:
            return "there is no such format"
        if row.get("kind") is None:
            return "the event is gone"
        if any(row[name] is not None for name in row if name not in columns and name != "hash"):
            return "a column that the row's format does not know has a value"
        if row["previous_hash"] != self._hash:
            return "it does not follow the row before it"
        if row["hash"] != row_hash(row):
            return "its hash does not cover what it says"
        return None

    def _wrong_heads(self, row: Row, heads: Sequence[Head], kept: Sequence[Head]) -> str | None:
        for where, found in (("database", heads), ("file", kept)):
            for head in found:
                if head.network_id != self.network_id or not signed(head, self.public):
                    return f"a head in the {where} is not signed by a key of ours"
                if head.hash != row["hash"]:
                    return f"a signed head in the {where} has another hash"
        if any(head not in heads for head in kept):
            return "a signed head that was kept in the file is gone from the database"
        return None
