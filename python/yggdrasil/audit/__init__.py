"""What was done over a border or to a permission: recorded where it is done, chained, signed, verified.

`record(tx, Event(...))` inside the transaction that does the thing; the rest follows by itself."""

from yggdrasil.audit.events import CONSOLE, SYSTEM, Actor, ActorKind, Event, EventKind, actor_of, operator
from yggdrasil.audit.store import record

__all__ = ["CONSOLE", "SYSTEM", "Actor", "ActorKind", "Event", "EventKind", "actor_of", "operator", "record"]
