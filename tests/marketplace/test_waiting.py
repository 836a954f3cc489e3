"""The queue's rules: bounds, turns, nobody forgotten, whoever leaves and whenever."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yggdrasil.marketplace.waiting import Line, Ticket, Waiting

LINES: list[Line] = [("chat", "a"), ("chat", "b"), ("embeddings", "a")]
NETWORKS = [UUID(int=number) for number in range(1, 5)]
ALL, PER_NETWORK, PER_USER = 9, 4, 3


def ticket(
    network: UUID = NETWORKS[0], user: int = 0, *lines: Line, demand: object = None, size: int = 1
) -> Ticket:
    mine = object() if demand is None else demand
    return Ticket(network, UUID(int=user), lines or (LINES[0],), 0.0, mine, size)


def queue(tickets_max: int = 100) -> Waiting:
    return Waiting(tickets_max=tickets_max, per_network_max=100, per_user_max=100)


def test_a_network_with_a_hundred_waiting_delays_anothers_first_by_one_turn() -> None:
    waiting = queue(1_000)
    many = [ticket(NETWORKS[0]) for _ in range(100)]
    for one in many:
        waiting.add(one)
    few = [ticket(network) for network in NETWORKS[1:]]
    for one in few:
        waiting.add(one)
    taken = [waiting.take([LINES[0]], lambda *_: True) for _ in range(8)]
    assert taken == [many[0], *few, *many[1:5]]


def test_who_comes_back_at_every_turn_gets_no_more_than_the_others() -> None:
    waiting = queue()
    for network in NETWORKS[:2]:
        for _ in range(10):
            waiting.add(ticket(network))
    served: Counter[UUID] = Counter()
    for _ in range(12):
        waiting.add(ticket(NETWORKS[2]))
        found = waiting.take([LINES[0]], lambda *_: True)
        assert found is not None
        served[found.network_id] += 1
    assert set(served.values()) == {4}


def test_lines_that_want_one_slot_have_turns() -> None:
    waiting = queue()
    for line in LINES[:2]:
        for number in range(4):
            waiting.add(ticket(NETWORKS[number], 0, line))
    taken = [waiting.take(LINES[:2], lambda *_: True) for _ in range(8)]
    assert [one.lines[0] for one in taken if one is not None] == LINES[:2] * 4


def test_what_does_not_suit_one_does_not_block_the_next_and_keeps_its_place() -> None:
    waiting = queue()
    first, second = ticket(), ticket()
    waiting.add(first)
    waiting.add(second)
    assert waiting.take([LINES[0]], lambda one, _: one is second) is second
    assert waiting.take([LINES[1]], lambda *_: True) is None
    assert waiting.take([LINES[0]], lambda *_: True) is first


def test_of_one_demand_only_a_shorter_one_is_asked_again() -> None:
    waiting = queue()
    tickets = {size: ticket(NETWORKS[0], 0, demand="same", size=size) for size in (5, 7, 5, 3)}
    other = ticket(NETWORKS[0], 0, demand="other", size=9)
    for one in (*tickets.values(), other):
        waiting.add(one)
    asked: list[Ticket] = []

    def fits(one: Ticket, _: Line) -> bool:
        asked.append(one)
        return False

    unfit: dict[object, int] = {}
    assert waiting.take([LINES[0]], fits, unfit) is None  # type: ignore[arg-type]  # any key will do
    assert asked == [tickets[5], tickets[3], other]
    assert waiting.take([LINES[0]], fits, unfit) is None  # type: ignore[arg-type]
    assert len(asked) == 3


def test_a_turn_that_led_to_nothing_is_given_back() -> None:
    waiting = queue()
    tickets = [ticket(network) for network in NETWORKS[:3]]
    for one in tickets:
        waiting.add(one)
    taken = waiting.take([LINES[0]], lambda *_: True)
    assert taken is tickets[0]
    waiting.put_back(taken)
    assert waiting.take([LINES[0]], lambda *_: True) is taken


def test_twice_or_beyond_the_limit_is_refused() -> None:
    waiting = Waiting(tickets_max=3, per_network_max=2, per_user_max=1)
    one = ticket()
    waiting.add(one)
    with pytest.raises(ValueError, match="no place"):
        waiting.add(one)
    assert waiting.full(NETWORKS[0], UUID(int=0)) == "user"
    assert waiting.full(NETWORKS[0], UUID(int=1)) is None
    waiting.add(ticket(NETWORKS[0], 1))
    assert waiting.full(NETWORKS[0], UUID(int=2)) == "network"
    waiting.add(ticket(NETWORKS[1], 1))
    assert waiting.full(NETWORKS[2], UUID(int=0)) == "queue"
    with pytest.raises(ValueError, match="no place"):
        waiting.add(ticket(NETWORKS[2]))
    assert waiting.remove(one)
    assert waiting.full(NETWORKS[2], UUID(int=0)) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_between_two_turns_of_a_network_every_other_that_waits_has_one(arrivals: list[int]) -> None:
    waiting = queue()
    for number in arrivals:
        waiting.add(ticket(NETWORKS[number]))
    left = Counter(arrivals)
    last: list[int] = []
    for _ in arrivals:
        found = waiting.take([LINES[0]], lambda *_: True)
        assert found is not None
        number = NETWORKS.index(found.network_id)
        if number in last:
            since = last[len(last) - last[::-1].index(number) :]
            assert all(other in since for other in left if other != number)
        last.append(number)
        left[number] -= 1
        left += Counter()
    assert not waiting


class Model(RuleBasedStateMachine):
    """Everything in any order, against a plain list of who is here."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = Waiting(tickets_max=ALL, per_network_max=PER_NETWORK, per_user_max=PER_USER)
        self.here: list[Ticket] = []

    @rule(
        network=st.sampled_from(NETWORKS),
        user=st.integers(0, 1),
        lines=st.lists(st.sampled_from(LINES), min_size=1, unique=True),
    )
    def come(self, network: UUID, user: int, lines: list[Line]) -> None:
        new = ticket(network, user, *lines)
        mine = [one for one in self.here if one.network_id == network]
        users = [one for one in mine if one.user_id == UUID(int=user)]
        full = len(users) >= PER_USER or len(mine) >= PER_NETWORK or len(self.here) >= ALL
        assert (self.waiting.full(network, UUID(int=user)) is not None) == full
        if not full:
            self.waiting.add(new)
            self.here.append(new)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.here))
        assert self.waiting.remove(gone)
        assert not self.waiting.remove(gone)
        self.here.remove(gone)

    @rule(data=st.data(), lines=st.lists(st.sampled_from(LINES), unique=True))
    def free(self, data: st.DataObject, lines: list[Line]) -> None:
        """A slot for some of them; some are gone by the time they are asked."""
        suits = data.draw(st.sets(st.sampled_from(self.here))) if self.here else set()
        leave = data.draw(st.sets(st.sampled_from(self.here))) - suits if self.here else set()

        def fits(one: Ticket, line: Line) -> bool:
            assert line in one.lines
            assert line in lines
            if one in leave and self.waiting.remove(one):
                self.here.remove(one)
            return one in suits

        found = self.waiting.take(lines, fits)
        could = [one for one in self.here if one in suits and set(one.lines) & set(lines)]
        if found is None:
            assert not could, "somebody whom it suits was not woken"
            return
        assert found in could
        earlier = self.here[: self.here.index(found)]
        same = [one for one in earlier if one.network_id == found.network_id and one in could]
        assert not any(set(one.lines) >= set(found.lines) for one in same), "overtaken at home"
        self.here.remove(found)

    @invariant()
    def agrees(self) -> None:
        assert set(self.waiting.tickets()) == set(self.here)
        assert len(self.waiting) == len(self.here) <= ALL
        assert set(self.waiting.lines()) == {line for one in self.here for line in one.lines}


TestModel = Model.TestCase
