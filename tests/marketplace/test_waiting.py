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


@st.composite
def crowds(draw: st.DrawFn) -> list[tuple[int, tuple[Line, ...]]]:
    """(network, lines) of those who come, in order."""
    lines = st.lists(st.sampled_from(LINES), min_size=1, unique=True).map(tuple)
    return draw(st.lists(st.tuples(st.integers(0, 3), lines), min_size=1, max_size=24))


def fill(crowd: list[tuple[int, tuple[Line, ...]]]) -> tuple[Waiting, dict[Ticket, int]]:
    waiting, number = queue(), {}
    for place, (network, lines) in enumerate(crowd):
        one = Ticket(NETWORKS[network], UUID(int=0), lines, 0.0, object(), 1, arrived=float(place))
        waiting.add(one)
        number[one] = place
    return waiting, number


def drained(waiting: Waiting, number: dict[Ticket, int], lines: list[Line]) -> list[int]:
    order = []
    while (one := waiting.take(lines, lambda *_: True)) is not None:
        order.append(number[one])
    return order


@given(
    crowd=crowds(), before=st.integers(0, 24), later=crowds(), of=st.sets(st.sampled_from(LINES), min_size=1)
)
def test_a_turn_that_led_to_nothing_leaves_the_queue_as_if_it_had_not_been(
    crowd: list[tuple[int, tuple[Line, ...]]],
    before: int,
    later: list[tuple[int, tuple[Line, ...]]],
    of: set[Line],
) -> None:
    """Also for who came while it was out: all are served as in a queue where nobody was sent back."""
    orders = []
    for sent_back in (True, False):
        waiting, number = fill(crowd)
        for _ in range(min(before, len(crowd))):
            waiting.take(LINES, lambda *_: True)
        out = waiting.take(sorted(of), lambda *_: True) if sent_back else None
        for place, (network, lines) in enumerate(later, start=len(crowd)):
            new = Ticket(NETWORKS[network], UUID(int=0), lines, 0.0, object(), 1, arrived=float(place))
            waiting.add(new)
            number[new] = place
        if out is not None:
            waiting.put_back(out)
            with pytest.raises(ValueError, match="waits already"):
                waiting.put_back(out)
        orders.append(drained(waiting, number, LINES))
    assert orders[0] == orders[1]


@given(crowd=crowds(), sent_back=st.sets(st.integers(0, 23)))
def test_whoever_is_sent_back_again_and_again_is_still_the_next(
    crowd: list[tuple[int, tuple[Line, ...]]], sent_back: set[int]
) -> None:
    one_line = [(network, (LINES[0],)) for network, _ in crowd]
    order = drained(*fill(one_line), [LINES[0]])
    waiting, number = fill(one_line)
    seen: list[int] = []
    while (one := waiting.take([LINES[0]], lambda *_: True)) is not None:
        for _ in range(3 if number[one] in sent_back else 0):
            waiting.put_back(one)
            assert waiting.take([LINES[0]], lambda *_: True) is one
        seen.append(number[one])
    assert seen == order


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=20))
def test_those_who_never_stood_in_line_come_back_before_all_and_in_the_order_they_came(
    crowd: list[tuple[int, bool]],
) -> None:
    waiting = queue()
    direct, others = [], []
    for place, (network, stood) in enumerate(crowd):
        one = Ticket(NETWORKS[network], UUID(int=0), (LINES[0],), 0.0, object(), 1, arrived=float(place))
        (others if stood else direct).append(one)
    for one in others:
        waiting.add(one)
    for one in reversed(direct):
        waiting.put_back(one)
    firsts = {}
    for one in direct:
        firsts.setdefault(one.network_id, one)
    taken = [waiting.take([LINES[0]], lambda *_: True) for _ in firsts]
    expected = list(firsts.values())
    # A network of both kinds: what it had in line before came before, if it did.
    for place, one in enumerate(expected):
        earlier = [its for its in others if its.network_id == one.network_id and its.arrived < one.arrived]
        expected[place] = earlier[0] if earlier else one
    assert taken == expected


@given(crowd=crowds())
def test_how_many_turns_come_before_ones_own(crowd: list[tuple[int, tuple[Line, ...]]]) -> None:
    waiting, number = fill([(network, (LINES[0],)) for network, _ in crowd])
    ahead = {number[one]: waiting.ahead(one) for one in waiting.tickets()}
    assert [ahead[place] for place in drained(waiting, number, [LINES[0]])] == list(range(len(crowd)))


class Model(RuleBasedStateMachine):
    """Everything in any order, against a plain list of who is here."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = Waiting(tickets_max=ALL, per_network_max=PER_NETWORK, per_user_max=PER_USER)
        self.here: list[Ticket] = []
        self.out: list[Ticket] = []
        self.came = 0

    @rule(
        network=st.sampled_from(NETWORKS),
        user=st.integers(0, 1),
        lines=st.lists(st.sampled_from(LINES), min_size=1, unique=True),
    )
    def come(self, network: UUID, user: int, lines: list[Line]) -> None:
        self.came += 1
        new = Ticket(network, UUID(int=user), tuple(lines), 0.0, object(), 1, arrived=float(self.came))
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
        self.out.append(found)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def sent_back(self, data: st.DataObject) -> None:
        """Whose turn led to nothing has a place, however full it is, before what came after it at home."""
        back = data.draw(st.sampled_from(self.out))
        self.out.remove(back)
        self.waiting.put_back(back)
        self.here.append(back)
        self.here.sort(key=lambda one: one.arrived)

    @invariant()
    def agrees(self) -> None:
        assert set(self.waiting.tickets()) == set(self.here)
        assert len(self.waiting) == len(self.here)
        assert set(self.waiting.lines()) == {line for one in self.here for line in one.lines}


TestModel = Model.TestCase
