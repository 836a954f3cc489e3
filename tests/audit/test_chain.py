"""The verifier finds every tampering, and names the first row that is not what was written there."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import pytest

from tests.audit import tampering
from tests.audit.tampering import TAMPERINGS, World, event, relink, verify, world
from tests.conftest import SEED
from tests.support import START
from yggdrasil.audit import chain
from yggdrasil.audit.chain import FORMATS, Signing, encode, genesis, row_hash, signed
from yggdrasil.keys import KeyRing

TRIES = int(os.environ.get("YGG_TAMPERINGS", "2000"))
ROUND = 250
"""Tamperings of one world."""


def test_every_tampering_is_found() -> None:
    """`YGG_TAMPERINGS=100000` is the campaign."""
    tried: Counter[str] = Counter()
    source = random.Random(SEED)
    made = world(source.randrange(2**63))
    for number in range(TRIES):
        if number % ROUND == 0:
            made = world(source.randrange(2**63))
            assert verify(made, made.mine) is None, "the control: nobody touched it"
            assert verify(made, made.other) is None
        tamper = TAMPERINGS[number % len(TAMPERINGS)]
        changed = made.mine.copy()
        tamper(made, changed)
        if changed == made.mine:
            continue
        tried[tamper.__name__] += 1
        assert verify(made, changed) is not None, (tamper.__name__, made.mine, changed)
    # A head that is replaced by itself is none; nothing else may have been without effect.
    assert sum(tried.values()) >= TRIES * 0.97
    assert set(tried) == {tamper.__name__ for tamper in TAMPERINGS}
    print(f"{sum(tried.values())} tamperings, all found: {dict(tried)}")


@pytest.fixture
def made() -> World:
    return world(SEED)


@pytest.mark.parametrize("number", [1, 7, 12])
def test_the_first_bad_row_is_named(made: World, number: int) -> None:
    for name in FORMATS[1]:
        if name in ("number", "format"):
            continue
        changed = made.mine.copy()
        row = changed.rows[number - 1]
        row[name] = tampering.flip(made, row[name])
        found = verify(made, changed)
        assert found is not None, name
        assert (found.network_id, found.number) == (made.mine.network_id, number), (name, found)


def test_a_cut_tail_is_known_by_the_file_alone(made: World) -> None:
    made = world(1, length=30)
    changed = made.mine.copy()
    keep = changed.heads[2].number
    changed.rows, changed.heads = changed.rows[:keep], changed.heads[:3]
    found = verify(made, changed)
    assert found is not None
    assert found.number == keep + 1
    # The control: without the file what is left is a sound chain. This is why there is a file.
    changed.file = []
    assert verify(made, changed) is None


def test_who_has_the_signing_key_is_not_found_without_the_file(made: World) -> None:
    """The control of the heads: what the signature is worth is what the key is worth."""
    changed = made.mine.copy()
    changed.rows[3]["detail"] = '{"reason":"nothing"}'
    relink(changed.rows, genesis(changed.network_id))
    changed.heads = [
        made.signing.sign(changed.network_id, head.number, changed.rows[head.number - 1]["hash"], head.at)
        for head in changed.heads
    ]
    assert verify(made, changed) is not None
    changed.file = []
    assert verify(made, changed) is None


@pytest.mark.parametrize("left_out", sorted(set(FORMATS[1]) - {"number", "network_id", "format"}))
def test_the_control_a_hash_without_one_column_misses_it(
    made: World, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    short = tuple(name for name in FORMATS[1] if name != left_out)
    monkeypatch.setitem(FORMATS, 1, short)
    changed = made.mine.copy()
    relink(changed.rows, genesis(changed.network_id))
    changed.heads = [
        made.signing.sign(changed.network_id, head.number, changed.rows[head.number - 1]["hash"], head.at)
        for head in changed.heads
    ]
    changed.file = list(changed.heads)
    if left_out == "previous_hash":
        # Rows that are not bound to those before them can be exchanged together with what they follow.
        assert row_hash(changed.rows[5]) == row_hash({**changed.rows[5], "previous_hash": bytes(32)})
        return
    changed.rows[5][left_out] = tampering.flip(made, changed.rows[5][left_out])
    # It is known as a column that this format does not have; a verifier without that rule misses it.
    assert verify(made, changed) is not None
    monkeypatch.setattr(chain.Verifier, "_wrong", wrong_without_the_rule)
    assert (verify(made, changed) is None) == (left_out != "kind" or changed.rows[5]["kind"] is not None)


def wrong_without_the_rule(self: chain.Verifier, row: dict[str, object], number: int) -> str | None:
    if row["number"] != number or row["previous_hash"] != self._hash or row["hash"] != row_hash(row):
        return "bad"
    return None


def test_a_column_of_a_later_format_is_empty_in_older_rows(made: World) -> None:
    changed = made.mine.copy()
    for row in changed.rows:
        row["added_later"] = None
    assert verify(made, changed) is None
    changed.rows[4]["added_later"] = "said afterwards"
    found = verify(made, changed)
    assert found is not None
    assert found.number == 5


def test_no_two_rows_are_the_same_bytes(made: World) -> None:
    columns = ("a", "b")
    different = [
        {"a": "1", "b": ""},
        {"a": "", "b": "1"},
        {"a": None, "b": "1"},
        {"a": b"1", "b": ""},
        {"a": 1, "b": ""},
        {"a": "1", "b": None},
        {"a": UUID(int=0), "b": bytes(16)},
        {"a": bytes(16), "b": UUID(int=0)},
        {"a": START, "b": 0},
        {"a": 0, "b": START},
    ]
    assert len({encode(columns, row) for row in different}) == len(different)
    with pytest.raises(TypeError):
        encode(columns, {"a": 1.5})
    with pytest.raises(TypeError):
        encode(columns, {"a": True})


def test_the_format_is_what_it_was() -> None:
    """A change of the encoding would break every chain there is: it needs a format of its own."""
    row = event(world(5), UUID(int=7), 1)
    row |= {"event_id": UUID(int=8), "actor_id": None, "user_id": UUID(int=9), "subject_id": None}
    row |= {"kind": "key.created", "actor_kind": "system", "subject_kind": "api_key", "detail": "{}"}
    row |= {
        "previous_hash": genesis(UUID(int=7)),
        "at": datetime.fromisoformat("2026-01-02T03:04:05.678901Z"),
    }
    assert genesis(UUID(int=7)).hex() == GENESIS
    assert row_hash(row).hex() == HASH


GENESIS = "d178c2a4bc76d9642718ad0a7601e6d0f61c13897cb16dff3681d2a151bbe0b9"
HASH = "b8847745302465765acc1f72f30c77f222e5c757be558a7af816e5b6c2345145"


def test_a_rotated_key_verifies_and_a_dropped_one_does_not(made: World) -> None:
    source = random.Random(3)
    old = tampering.ring(source, "k1")
    new = KeyRing((*tampering.ring(source, "k2").keys, *old.keys))
    head = Signing(old).sign(made.mine.network_id, 3, bytes(32), START)
    assert signed(head, Signing(old).public)
    assert signed(head, Signing(new).public)
    assert Signing(new).sign(made.mine.network_id, 3, bytes(32), START).key_id == "k2"
    assert not signed(head, Signing(tampering.ring(source, "k1")).public)
    assert not signed(replace(head, key_id="k9"), Signing(new).public)
