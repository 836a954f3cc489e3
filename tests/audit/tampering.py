"""Chains made of data alone, and the ways to tamper with one. Everything follows from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.support import START
from yggdrasil.audit.chain import FORMAT, Bad, Head, Signing, Verifier, genesis, row_hash
from yggdrasil.keys import Key, KeyRing

Rows = list[dict[str, Any]]


@dataclass
class Chain:
    """One network's rows and heads as the database has them, and the heads that lie in the file."""

    network_id: UUID
    rows: Rows
    heads: list[Head]
    file: list[Head]

    def copy(self) -> Chain:
        return Chain(self.network_id, [dict(row) for row in self.rows], list(self.heads), list(self.file))

    def in_order(self) -> Rows:
        """As the database reads them."""
        return sorted(self.rows, key=lambda row: row["number"])


@dataclass
class World:
    """Two networks' chains, the keys that signed them, and an attacker's own."""

    random: random.Random
    signing: Signing
    attacker: Signing
    mine: Chain
    other: Chain

    def uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)


def ring(source: random.Random, *names: str) -> KeyRing:
    return KeyRing(tuple(Key(name, source.randbytes(32)) for name in names))


def world(seed: int, *, length: int = 12) -> World:
    source = random.Random(seed)
    signing, attacker = Signing(ring(source, "k2", "k1")), Signing(ring(source, "k2"))
    made = World(source, signing, attacker, *(Chain(UUID(int=n), [], [], []) for n in (0, 1)))
    made.mine, made.other = (chain(made, length) for _ in range(2))
    return made


def chain(of: World, length: int) -> Chain:
    """Rows, with a head after some of them and after the last; the file has all heads."""
    made = Chain(of.uuid(), [], [], [])
    for number in range(1, length + 1):
        made.rows.append(event(of, made.network_id, number))
        if number == length or of.random.random() < 0.3:
            made.heads.append(Head(made.network_id, number, b"", START + timedelta(seconds=number), "", b""))
    relink(made.rows, genesis(made.network_id))
    made.heads = [
        of.signing.sign(head.network_id, head.number, made.rows[head.number - 1]["hash"], head.at)
        for head in made.heads
    ]
    made.file = list(made.heads)
    return made


def event(of: World, network_id: UUID, number: int) -> dict[str, Any]:
    source = of.random
    return {
        "network_id": network_id,
        "number": number,
        "event_id": of.uuid(),
        "format": FORMAT,
        "previous_hash": b"",
        "hash": b"",
        "kind": source.choice(["key.created", "opening.network", "unknown.alert"]),
        "actor_kind": source.choice(["user", "key", "operator"]),
        "actor_id": source.choice([None, of.uuid()]),
        "user_id": source.choice([None, of.uuid()]),
        "subject_kind": source.choice(["api_key", "network"]),
        "subject_id": source.choice([None, of.uuid()]),
        "detail": source.choice(["{}", '{"reason":"ä complaint"}', '{"count":3}']),
        "at": START + timedelta(microseconds=source.randrange(10**12)),
    }


def relink(rows: Rows, previous: bytes) -> None:
    """What somebody who knows the algorithm does: every row follows the one before it again."""
    for row in rows:
        row["previous_hash"] = previous
        row["hash"] = previous = row_hash(row)


def verify(of: World, chain_: Chain, *, page: int = 5) -> Bad | None:
    """As `yggdrasil audit verify` does it, page by page."""
    verifier = Verifier(chain_.network_id, of.signing.public, chain_.file)
    rows = chain_.in_order()
    last = 0
    for start in range(0, len(rows), page):
        part = rows[start : start + page]
        upto = part[-1]["number"]
        verifier.page(part, [head for head in chain_.heads if last < head.number <= upto])
        last = upto
    return verifier.finish([head for head in chain_.heads if head.number > last])


# The ways. Each changes a copy of the chain in place, and tells which.

Tampering = Callable[[World, Chain], None]


def flip(of: World, value: Any) -> Any:
    """A value of the same type that differs, by one bit where there are bits."""
    source = of.random
    match value:
        case None:
            return of.uuid()
        case UUID():
            return source.choice([UUID(int=value.int ^ 1 << source.randrange(128)), None])
        case bytes():
            changed = bytearray(value)
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
            return bytes(changed)
        case str():
            at = source.randrange(len(value))
            return value[:at] + chr(ord(value[at]) ^ 1 << source.randrange(3)) + value[at + 1 :]
        case int():
            return value ^ 1 << source.randrange(15)
        case _:
            return value + timedelta(microseconds=source.choice([-1, 1]) << source.randrange(40))


def any_column(of: World, chain_: Chain) -> None:
    row = of.random.choice(chain_.rows)
    name = of.random.choice(sorted(row))
    row[name] = flip(of, row[name])


def delete(of: World, chain_: Chain) -> None:
    chain_.rows.remove(of.random.choice(chain_.rows))


def delete_and_renumber(of: World, chain_: Chain) -> None:
    """All links after it made anew: only what was signed tells."""
    at = of.random.randrange(len(chain_.rows))
    del chain_.rows[at]
    for number, row in enumerate(chain_.rows, start=1):
        row["number"] = number
    relink(chain_.rows, genesis(chain_.network_id))


def insert(of: World, chain_: Chain) -> None:
    at = of.random.randrange(len(chain_.rows) + 1)
    made = event(of, chain_.network_id, at + 1)
    for row in chain_.rows[at:]:
        row["number"] += 1
    chain_.rows.insert(at, made)
    if of.random.random() < 0.5:
        relink(chain_.rows, genesis(chain_.network_id))


def swap(of: World, chain_: Chain) -> None:
    left, right = of.random.sample(chain_.rows, 2)
    if of.random.random() < 0.5:
        left["number"], right["number"] = right["number"], left["number"]
    else:
        kept = dict(left)
        left.update({name: value for name, value in right.items() if name != "number"})
        right.update({name: value for name, value in kept.items() if name != "number"})


def duplicate(of: World, chain_: Chain) -> None:
    row = dict(of.random.choice(chain_.rows))
    row["number"] = of.random.choice([row["number"], len(chain_.rows) + 1])
    chain_.rows.append(row)


def truncate(of: World, chain_: Chain) -> None:
    """The tail, and with it all heads that the database has of it."""
    keep = of.random.randrange(len(chain_.rows))
    chain_.rows = chain_.rows[:keep]
    chain_.heads = [head for head in chain_.heads if head.number <= keep]


def truncate_to_a_head(of: World, chain_: Chain) -> None:
    """To a place where a head was signed: what is left is a sound chain, and only the file knows better."""
    ends = [0, *(head.number for head in chain_.heads[:-1])]
    keep = of.random.choice(ends)
    chain_.rows = chain_.rows[:keep]
    chain_.heads = [head for head in chain_.heads if head.number <= keep]


def fork(of: World, chain_: Chain) -> None:
    """From some row on another history, signed with the attacker's key under the same name or not at all."""
    at = of.random.randrange(len(chain_.rows))
    tail = [event(of, chain_.network_id, number) for number in range(at + 1, len(chain_.rows) + 1)]
    relink(tail, chain_.rows[at - 1]["hash"] if at else genesis(chain_.network_id))
    chain_.rows[at:] = tail
    if of.random.random() < 0.7:
        chain_.heads = [
            head if head.number <= at else resigned(of, chain_, head.number) for head in chain_.heads
        ]


def resigned(of: World, chain_: Chain, number: int) -> Head:
    return of.attacker.sign(chain_.network_id, number, chain_.rows[number - 1]["hash"], START)


def rehash_suffix(of: World, chain_: Chain) -> None:
    """One row says something else, and everything after it follows again; heads fit, are gone or stay."""
    at = of.random.randrange(len(chain_.rows))
    name = of.random.choice(["detail", "actor_id", "kind", "at", "subject_id", "user_id"])
    chain_.rows[at][name] = flip(of, chain_.rows[at][name])
    relink(chain_.rows[at:], chain_.rows[at - 1]["hash"] if at else genesis(chain_.network_id))
    heads = of.random.randrange(3)
    if heads == 0:
        chain_.heads = [head for head in chain_.heads if head.number <= at]
    elif heads == 1:
        chain_.heads = [
            head if head.number <= at else replace(head, hash=chain_.rows[head.number - 1]["hash"])
            for head in chain_.heads
        ]


def move_between_networks(of: World, chain_: Chain) -> None:
    at = of.random.randrange(len(chain_.rows))
    stolen = dict(of.random.choice(of.other.rows))
    if of.random.random() < 0.5:
        stolen["network_id"] = chain_.network_id
    stolen["number"] = at + 1
    chain_.rows[at] = stolen


def move_a_whole_chain(of: World, chain_: Chain) -> None:
    """All of another network's rows and heads, under this one's id or as they are."""
    other = of.other.copy()
    chain_.rows, chain_.heads = other.rows, other.heads
    if of.random.random() < 0.5:
        for row in chain_.rows:
            row["network_id"] = chain_.network_id
        relink(chain_.rows, genesis(chain_.network_id))
        chain_.heads = [
            replace(head, network_id=chain_.network_id, hash=chain_.rows[head.number - 1]["hash"])
            for head in chain_.heads
        ]


def change_a_head(of: World, chain_: Chain) -> None:
    heads = of.random.choice([chain_.heads, chain_.file])
    at = of.random.randrange(len(heads))
    name = of.random.choice(["network_id", "number", "hash", "at", "key_id", "signature"])
    changed = flip(of, getattr(heads[at], name))
    while changed is None:
        changed = flip(of, getattr(heads[at], name))
    heads[at] = replace(heads[at], **{name: changed})


def replace_a_head(of: World, chain_: Chain) -> None:
    """By another network's, by an older one of the same chain under its number, or by a stranger's."""
    at = of.random.randrange(len(chain_.heads))
    head = chain_.heads[at]
    chain_.heads[at] = of.random.choice(
        [
            replace(of.random.choice(of.other.heads), number=head.number),
            replace(chain_.heads[at - 1], number=head.number, at=head.at + timedelta(1)),
            resigned(of, chain_, head.number),
        ]
    )


def delete_a_head(of: World, chain_: Chain) -> None:
    chain_.heads.remove(of.random.choice(chain_.heads))


TAMPERINGS: tuple[Tampering, ...] = (
    any_column,
    any_column,
    any_column,
    delete,
    delete_and_renumber,
    insert,
    swap,
    duplicate,
    truncate,
    truncate_to_a_head,
    fork,
    rehash_suffix,
    move_between_networks,
    move_a_whole_chain,
    change_a_head,
    replace_a_head,
    delete_a_head,
)
