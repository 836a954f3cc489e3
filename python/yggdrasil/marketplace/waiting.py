"""Who waits for a slot, and whose turn it is. No I/O, no clock.

A ticket waits in the lines of the models it would take. In a line the networks have turns, one after another,
and within a network the first come is the first looked at: a network with a hundred tickets delays another's
first by one turn. Lines that want the same slot have turns too. A ticket that cannot use what became free
keeps its place.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar
from uuid import UUID

Line = tuple[str, str]
"""(kind, model)."""
Limit = Literal["queue", "network", "user"]
K = TypeVar("K", bound=Hashable)


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the queue. Of two tickets with one `demand`, what does not suit the one does not suit the
    other of the same `size` or more either. `since` is in seconds of the owner's clock."""

    network_id: UUID
    user_id: UUID
    lines: tuple[Line, ...]
    since: float
    demand: Hashable
    size: int


class Waiting:
    """All tickets, bounded in number: in all, of each network and of each user."""

    def __init__(self, *, tickets_max: int, per_network_max: int, per_user_max: int) -> None:
        self._tickets_max = tickets_max
        self._per_network_max = per_network_max
        self._per_user_max = per_user_max
        self._tickets: dict[Ticket, None] = {}
        self._lines: dict[Line, OrderedDict[UUID, OrderedDict[Ticket, None]]] = {}
        self._turns: dict[Line, int] = {}
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

    def add(self, ticket: Ticket, *, first: bool = False) -> None:
        """The last of its network, and a network that had none has the last turn. With `first`, the next
        one: a ticket whose turn came and led to nothing. Ask `full` before; ValueError if it is full, or has
        the ticket."""
        if ticket in self._tickets or (not first and self.full(ticket.network_id, ticket.user_id)):
            raise ValueError("no place for this ticket")
        self._tickets[ticket] = None
        self._of_network[ticket.network_id] += 1
        self._of_user[ticket.network_id, ticket.user_id] += 1
        for line in ticket.lines:
            if line not in self._lines:
                self._lines[line] = OrderedDict()
                self._turns[line] = self._next_turn()
            networks = self._lines[line]
            own = networks.setdefault(ticket.network_id, OrderedDict())
            own[ticket] = None
            if first:
                own.move_to_end(ticket, last=False)
                networks.move_to_end(ticket.network_id, last=False)

    def remove(self, ticket: Ticket) -> bool:
        """False if it is not here (any more)."""
        if ticket not in self._tickets:
            return False
        del self._tickets[ticket]
        _less(self._of_network, ticket.network_id)
        _less(self._of_user, (ticket.network_id, ticket.user_id))
        for line in ticket.lines:
            networks = self._lines[line]
            own = networks[ticket.network_id]
            del own[ticket]
            if not own:
                del networks[ticket.network_id]
            if not networks:
                del self._lines[line], self._turns[line]
        return True

    def lines(self) -> list[Line]:
        """Lines in which somebody waits."""
        return list(self._lines)

    def tickets(self) -> list[Ticket]:
        """All of them."""
        return list(self._tickets)

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
        known = sorted((line for line in lines if line in self._lines), key=self._turns.__getitem__)
        for line in known:
            for network_id, own in list(self._lines.get(line, {}).items()):
                for ticket in list(own):
                    least = unfit.get((line, ticket.demand))
                    if ticket not in self._tickets or (least is not None and ticket.size >= least):
                        continue
                    if not fits(ticket, line):
                        unfit[line, ticket.demand] = ticket.size
                        continue
                    self._had_turn(line, network_id)
                    self.remove(ticket)
                    return ticket
        return None

    def _had_turn(self, line: Line, network_id: UUID) -> None:
        networks = self._lines.get(line)
        if networks is not None and network_id in networks:
            networks.move_to_end(network_id)
            self._turns[line] = self._next_turn()

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def since(self) -> float | None:
        """When the one that waits longest came; None if nobody waits."""
        return min((ticket.since for ticket in self._tickets), default=None)


def nobody_waits(_device: tuple[UUID, UUID] | None, _one: bool) -> None:
    """For a market without a queue: what becomes free is taken by the next request."""


def _less(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
