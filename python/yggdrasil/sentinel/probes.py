"""What is tried, read off the application's own routes, and how two answers are compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from yggdrasil.sentinel.asking import Answer

SKIPPED: Final = ("/docs", "/schema", "/dev")
"""Pages that are the same for everybody; what stands in their paths names nobody's thing."""
SOCKET: Final = "SOCKET"

_PARAMETER: Final = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Probe:
    """One place for an id: a parameter of a path (`slot` is its number), or a field of a socket message.

    `method` is HTTP's, or `SOCKET` with the message's type as `path`.
    """

    method: str
    path: str
    slot: int = 0

    def filled(self, value: str) -> str:
        """The path with `value` in its slot, and in the others too: each of them is somebody's id."""
        return _PARAMETER.sub(lambda _: value, self.path)


MESSAGES: Final = (Probe(SOCKET, "connect"), Probe(SOCKET, "action"))
"""The messages that name another device."""


def probes_of(routes: Iterable[tuple[str, Iterable[str]]]) -> Iterator[Probe]:
    """A probe for each method of each path that holds a parameter; then those of the socket."""
    for path, methods in sorted((path, tuple(methods)) for path, methods in routes):
        if not _PARAMETER.search(path) or path.startswith(SKIPPED):
            continue
        for method in sorted(methods):
            if method != "OPTIONS":
                yield Probe(method, path)
    yield from MESSAGES


def difference(foreign: Answer, absent: Answer, foreign_id: str, absent_id: str) -> str | None:
    """What tells the two answers apart, None if nothing does. An id that the asker sent himself may stand in
    the answer."""
    if foreign.status < 400:
        return f"a foreign id was answered with {foreign.status}"
    if foreign.status != absent.status:
        return f"status {foreign.status} for a foreign id, {absent.status} for an absent one"
    if foreign.headers != absent.headers:
        names = {name.decode() for name, _ in set(foreign.headers) ^ set(absent.headers)}
        return f"headers differ: {', '.join(sorted(names))}"
    if foreign.body.replace(foreign_id.encode(), b"?") != absent.body.replace(absent_id.encode(), b"?"):
        return "bodies differ"
    return None
