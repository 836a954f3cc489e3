"""The matrix: every path × every place for an id × whose id × how it is written × every method.

Paths, parameters and fields come from the application, what goes into a body from `probes.PROBES`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from tests.isolation import forms
from tests.isolation.forms import PLAIN
from tests.isolation.probes import PROBES, Slot
from tests.isolation.test_routes import ROUTES
from tests.isolation.test_sockets import PROBES as MESSAGES

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
SOCKET: Final = "SOCKET"
DATA: Final = "data frame"
CREDENTIALS: Final = ("token", "key", "nobody")
CLASSES: Final = ("foreign", "deleted", "malformed")

HEADERS: Final[dict[str, tuple[str, str]]] = {
    "idempotency-key": ("idempotency", "{}"),
    "x-yggdrasil-only": ("offer", "{}"),
    "x-yggdrasil-order": ("offer", "{}"),
    "x-yggdrasil-idempotency-key": ("idempotency", "{}"),
    "x-request-id": ("bought", "{}"),
    "x-network-id": ("network", "{}"),
    "x-user-id": ("user", "{}"),
    "x-device-id": ("device_id", "{}"),
    "x-forwarded-user": ("user", "{}"),
    "cookie": ("network", "network={}; session={}"),
    "if-none-match": ("device", '"{}"'),
    "if-match": ("key", '"{}"'),
    "traceparent": ("device", "00-{}-0123456789abcdef-01"),
    "authorization": ("key_text", "Bearer {}"),
}
"""Where an id may stand in a header, and how."""
QUERIES: Final[dict[str, str]] = {"network_id": "network", "user_id": "user", "device_id": "device_id"}
"""Parameters that a stranger would try everywhere; those of a route come from the application."""

ENDS_THE_ATTACKER: Final = {("POST", "/api/v1/users/logout"), ("DELETE", "/api/v1/users/me")}
"""Takes no id, and after it nobody is there to ask: only tried with a query, which is refused before."""
_UNSENDABLE: Final = frozenset({"line end", "nul", "nul inside"})
"""Ends a header, or the whole request, for whoever reads it."""
LEFT_OUT: Final = {("/v1/responses", "previous_response_id"): "null"}
"""A form that says there is no id: what is left is B's own whole request, which A serves and is paid for."""
NOWHERE: Final = "nobody-sells-this"
_CHAT: Final[dict[str, Any]] = {"model": NOWHERE, "messages": [{"role": "user", "content": "hi"}]}
BODIES: Final[dict[tuple[str, str], Any]] = {
    ("POST", "/v1/chat/completions"): _CHAT,
    ("POST", "/v1/responses"): {"model": NOWHERE, "input": "hi"},
    ("POST", "/v1/embeddings"): {"model": NOWHERE, "input": "hi"},
    ("POST", "/api/v1/marketplace/requests"): {"kind": "chat", "request": _CHAT},
}
"""What is sent where only a sound body is read as far as the headers: requests that nobody serves."""


@dataclass(frozen=True)
class Place:
    """Where an id goes: `where` is path, body, query, header, or socket."""

    path: str
    where: str
    name: str
    ids: tuple[str, ...]
    variant: int = 0
    """Of slots with the same place and ids, which."""

    def __str__(self) -> str:
        return f"{self.where} {self.name}" + (f" ({self.variant + 1})" if self.variant else "")


@dataclass(frozen=True)
class Cell:
    """One probe. `state`: whose id; `form`: how it is written; `by`: the credential."""

    place: Place
    method: str
    name: str
    state: str
    form: str
    by: str

    @property
    def kind(self) -> str:
        if self.form != PLAIN:
            return "malformed"
        return "foreign" if self.state == "foreign" else "deleted"

    def __str__(self) -> str:
        what = f"{self.state} {self.name}" + ("" if self.form == PLAIN else f", {self.form}")
        return f"{self.method} {self.place.path} [{self.place}] {what}, by {self.by}"


def _declared() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for route in ROUTES:
        found.setdefault(route.path, set()).add(route.method)
    return found


DECLARED: Final = _declared()
"""The methods of each path."""


def slot_of(method: str, place: Place, name: str) -> Slot | None:
    """The probe's own slot for this method, if it has one."""
    probe = PROBES.get((method, place.path))
    slots = [slot for slot in probe.slots if slot.place == place.name] if probe is not None else []
    named = [slot for slot in slots if name in slot.names] or slots
    return named[min(place.variant, len(named) - 1)] if named else None


@cache
def places() -> tuple[Place, ...]:
    """All of them, in a fixed order."""
    found: dict[tuple[str, str, str, int], tuple[str, ...]] = {}

    def add(path: str, where: str, name: str, ids: tuple[str, ...], variant: int = 0) -> None:
        known = found.get((path, where, name, variant), ())
        found[path, where, name, variant] = (*known, *(one for one in ids if one not in known))

    for path in sorted(DECLARED):
        parameters = re.findall(r"\{(\w+)\}", path)
        for route in (route for route in ROUTES if route.path == path):
            seen: Counter[tuple[str, str]] = Counter()
            for slot in PROBES[route.method, path].slots:
                where = "path" if slot.place in parameters else "body" if slot.body is not None else "query"
                for name in slot.names:
                    add(path, where, slot.place, (name,), seen[slot.place, name])
                    seen[slot.place, name] += 1
            for field in route.fields:
                if field == "cursor":
                    add(path, "query", field, ("cursor", "device", "network"))
        for name in parameters:
            if (path, "path", name, 0) not in found:
                add(path, "path", name, ("device", "device_id"))
        for name, known in QUERIES.items():
            add(path, "query", name, (known,))
        for name, (known, _) in HEADERS.items():
            add(path, "header", name, (known,))
    for kind, probe in MESSAGES.items():
        if probe is not None:
            names = ("device_id", "device") if probe[0] == "device" else ("number",)
            add(SOCKET, "socket", kind, names)
    add(SOCKET, "socket", DATA, ("number",))
    return tuple(
        Place(path, where, name, ids, variant) for (path, where, name, variant), ids in found.items()
    )


def forms_of(place: Place, name: str) -> tuple[str, ...]:
    """The ways to miswrite an id there."""
    text = tuple(forms.TEXT_FORMS)
    if place.where == "path":
        return (*text, *forms.PATH_FORMS)
    if place.where == "body":
        left_out = LEFT_OUT.get((place.path, place.name))
        return (*text, *(form for form in forms.JSON_FORMS if form != left_out))
    if place.where == "socket":
        if place.name == DATA:
            return ("zero",)  # Four bytes hold any number, and nothing else.
        return tuple(forms.NUMBER_FORMS) if name == "number" else (*text, *forms.JSON_FORMS)
    if place.where == "header":
        return tuple(form for form in text if form not in _UNSENDABLE)
    return text


def methods_of(place: Place) -> tuple[str, ...]:
    return (place.name,) if place.where == "socket" else METHODS


def cells(has: Callable[[str, str], bool]) -> Iterator[Cell]:
    """Every cell of the matrix. `has(state, name)`: whether there is such an id."""
    for place in places():
        for method in methods_of(place):
            if place.where != "query" and (method, place.path) in ENDS_THE_ATTACKER:
                continue
            for name in place.ids:
                for state in ("foreign", "removed", "erased"):
                    if not has(state, name):
                        continue
                    for form in (PLAIN, *forms_of(place, name)):
                        by = CREDENTIALS if form == PLAIN and place.where != "socket" else CREDENTIALS[:1]
                        if place.name == "authorization":
                            by = ("its own",)
                        for credential in by:
                            yield Cell(place, method, name, state, form, credential)


def due(cell: Cell) -> tuple[str, str, str, str] | None:
    """What of the coverage a cell fills: (method, path, place, class) of the methods a path has."""
    if cell.place.where != "socket" and cell.method not in DECLARED[cell.place.path]:
        return None
    return cell.method, cell.place.path, str(cell.place), cell.kind
