"""Who waits for a slot, and whose turn it is. No I/O, no clock.

A ticket waits in the lines of the models it would take. In a line the networks have turns, one after another,
and within a network the first come is the first looked at: a network with a hundred tickets delays another's
first by one turn. Lines that want the same slot have turns too. A ticket that cannot use what became free
keeps its place, and one whose turn led to nothing gets it back, as if the turn had not been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from uuid import UUID

Line = tuple[str, str]
"""(kind, model)."""
Limit = Literal["queue", "network", "user"]
K = TypeVar("K", bound=Hashable)


Stamp = tuple[int, float]
"""When it is a line's, or a network's, turn: the lower, the sooner."""
Turns = Mapping[Line, tuple[Stamp, Stamp]]
"""Of each line: its own stamp, and the network's in it."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the queue. Of two tickets with one `demand`, what does not suit the one does not suit the
    other of the same `size` or more either. `since` and `arrived` are in seconds of the owner's clock: when
    it began to wait, and when the request came, which may be long before that."""

    network_id: UUID
    user_id: UUID
    lines: tuple[Line, ...]
    since: float
    demand: Hashable
    size: int
    arrived: float = 0.0
    turns: Turns = field(default_factory=dict)
    """Where it stood when it was taken out; empty if that never was."""


@dataclass(slots=True)
class _Own:
    """What one network has in a line."""

    turn: Stamp
    tickets: dict[Ticket, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Line:
    turn: Stamp
    networks: dict[UUID, _Own] = field(default_factory=dict)

    def in_turn(self) -> list[tuple[UUID, _Own]]:
        return sorted(self.networks.items(), key=lambda item: item[1].turn)


class Waiting:
    """All tickets, bounded in number: in all, of each network and of each user."""

    def __init__(self, *, tickets_max: int, per_network_max: int, per_user_max: int) -> None:
        self._tickets_max = tickets_max
        self._per_network_max = per_network_max
        self._per_user_max = per_user_max
        self._tickets: dict[Ticket, None] = {}
        self._lines: dict[Line, _Line] = {}
        self._turn = 0
        self._of_network: Counter[UUID] = Counter()
        self._of_user: Counter[tuple[UUID, UUID]] = Counter()

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._tickets

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def full(self, network_id: UUID, user_id: UUID) -> Limit | None:
        """The limit that keeps one more ticket of the user out, his own first."""
        if self._of_user[network_id, user_id] >= self._per_user_max:
            return "user"
        if self._of_network[network_id] >= self._per_network_max:
            return "network"
        return "queue" if len(self._tickets) >= self._tickets_max else None

    def add(self, ticket: Ticket) -> None:
        """The last of its network, and a network that had none has the last turn. Ask `full` before;
        ValueError if it is full, or has the ticket."""
        if ticket in self._tickets or self.full(ticket.network_id, ticket.user_id):
            raise ValueError("no place for this ticket")
        self._count(ticket)
        for line in ticket.lines:
            self._own(ticket, line).tickets[ticket] = None

    def put_back(self, ticket: Ticket) -> None:
        """A ticket whose turn came and led to nothing, in its place again: before what came after it at home,
        and its network and its lines as if they had not had the turn. One that was served without a turn,
        for nobody stood before it, is the next. There is always room, for it had its place before; ValueError
        if it is here."""
        if ticket in self._tickets:
            raise ValueError("this ticket waits already")
        self._count(ticket)
        never = (0, ticket.arrived)
        for line in ticket.lines:
            own = self._own(ticket, line)
            before = ticket.turns.get(line, (never, never))
            self._lines[line].turn = min(self._lines[line].turn, before[0])
            own.turn = min(own.turn, before[1])
            own.tickets = dict.fromkeys(sorted([ticket, *own.tickets], key=lambda one: one.arrived))

    def _count(self, ticket: Ticket) -> None:
        self._tickets[ticket] = None
        self._of_network[ticket.network_id] += 1
        self._of_user[ticket.network_id, ticket.user_id] += 1

    def _own(self, ticket: Ticket, line: Line) -> _Own:
        """Its network's part of a line, made with the last turn if there is none."""
        if line not in self._lines:
            self._lines[line] = _Line(self._next_turn())
        networks = self._lines[line].networks
        if ticket.network_id not in networks:
            networks[ticket.network_id] = _Own(self._next_turn())
        return networks[ticket.network_id]

    def remove(self, ticket: Ticket) -> bool:
        """False if it is not here (any more)."""
        if ticket not in self._tickets:
            return False
        del self._tickets[ticket]
        less(self._of_network, ticket.network_id)
        less(self._of_user, (ticket.network_id, ticket.user_id))
        for line in ticket.lines:
            networks = self._lines[line].networks
            own = networks[ticket.network_id].tickets
            del own[ticket]
            if not own:
                del networks[ticket.network_id]
            if not networks:
                del self._lines[line]
        return True

    def lines(self) -> list[Line]:
        """Lines in which somebody waits."""
        return list(self._lines)

    def tickets(self) -> list[Ticket]:
        """All of them."""
        return list(self._tickets)

    def ahead(self, ticket: Ticket) -> int:
        """How many turns come before that of a ticket that is here, if each suits whoever has it: in the
        shortest of its lines."""
        return min(self._ahead(ticket, self._lines[line]) for line in ticket.lines)

    def _ahead(self, ticket: Ticket, line: _Line) -> int:
        mine = line.networks[ticket.network_id]
        earlier = list(mine.tickets).index(ticket)
        turns = earlier
        for network_id, own in line.networks.items():
            if network_id != ticket.network_id:
                turns += min(len(own.tickets), earlier + (own.turn < mine.turn))
        return turns

    def take(
        self,
        lines: Iterable[Line],
        fits: Callable[[Ticket, Line], bool],
        unfit: dict[tuple[Line, Hashable], int] | None = None,
    ) -> Ticket | None:
        """Take out the first ticket of the lines that `fits`; its network's next turn in that line is the
        last, and so is the line's among lines. `fits` may take tickets out. Several calls about one event
        share `unfit`, so that nobody is asked again what did not suit before."""
        unfit = {} if unfit is None else unfit
        known = sorted(
            (line for line in lines if line in self._lines), key=lambda line: self._lines[line].turn
        )
        for line in known:
            found = self._lines.get(line)
            for network_id, own in [] if found is None else found.in_turn():
                for ticket in list(own.tickets):
                    least = unfit.get((line, ticket.demand))
                    if ticket not in self._tickets or (least is not None and ticket.size >= least):
                        continue
                    if not fits(ticket, line):
                        unfit[line, ticket.demand] = ticket.size
                        continue
                    ticket.turns = {
                        each: (self._lines[each].turn, self._lines[each].networks[network_id].turn)
                        for each in ticket.lines
                    }
                    self._lines[line].networks[network_id].turn = self._next_turn()
                    self._lines[line].turn = self._next_turn()
                    self.remove(ticket)
                    return ticket
        return None

    def _next_turn(self) -> Stamp:
        self._turn += 1
        return self._turn, 0.0

    def since(self) -> float | None:
        """When the one that waits longest came; None if nobody waits."""
        return min((ticket.since for ticket in self._tickets), default=None)


def nobody_waits(_device: tuple[UUID, UUID] | None, _one: bool) -> None:
    """For a market without a queue: what becomes free is taken by the next request."""


def less(counts: Counter[K], key: K) -> None:
    """One fewer of `key`; what is none is not kept."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
