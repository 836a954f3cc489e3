"""One probe: the same question with an id that is somebody's and with one that never was; what differs."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from tests.isolation import forms
from tests.isolation.cells import BODIES, DATA, HEADERS, Cell, slot_of
from tests.isolation.forms import PLAIN
from tests.isolation.raw import Seen, Wire
from tests.isolation.stand import Stand
from tests.isolation.test_sockets import PROBES as MESSAGES
from tests.isolation.test_sockets import frames_after, frames_after_data
from yggdrasil.devices.paging import encode_cursor
from yggdrasil.payments.routes import encode_cursor as encode_method_cursor
from yggdrasil.users.apikeys import SECRET_BYTES, ApiKey, parse
from yggdrasil.wire.messages import pack

LINK_OF_A: Final = 1
NEVER_A_LINK: Final = 987_654
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
ECHO_CHARS_MIN: Final = 6

_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_COUNTS: Final = {"/metrics"}
"""Numbers of the whole server, which each request moves; that no id stands among them is checked."""


@dataclass(frozen=True)
class Difference:
    """What told the two answers apart, and where."""

    cell: str
    what: str


@dataclass
class Engine:
    """B, asking. `draw` decides on all that is left to chance."""

    stand: Stand
    draw: random.Random
    wire: Wire = field(init=False)
    statuses: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.wire = Wire("127.0.0.1", self.stand.port)

    async def close(self) -> None:
        await self.wire.close()

    def has(self, state: str, name: str) -> bool:
        if name == "number":
            return state == "foreign"
        if name == "cursor":
            return state != "removed"
        return name in self.stand.ids[state]

    async def probe(self, cell: Cell) -> Difference | None:
        """Ask both ways, in an order of chance."""
        theirs, nobodys = self._pair(cell)
        if cell.place.where == "socket":
            return await self._socket(cell, theirs, nobodys)
        # What the other parameters of the path are, and all else, is the same for both.
        rest = self.draw.getrandbits(64)
        seen: dict[str, Seen] = {}
        for value in self.draw.sample((theirs, nobodys), 2):
            seen[value] = await self._ask(cell, value, random.Random(rest))
        self.statuses[seen[theirs].status] = self.statuses.get(seen[theirs].status, 0) + 1
        what = self._compare(cell, seen[theirs], seen[nobodys], theirs, nobodys)
        return None if what is None else Difference(str(cell), what)

    # ---- ids -------------------------------------------------------------------------------------------

    def _pair(self, cell: Cell) -> tuple[Any, Any]:
        """The id that is or was somebody's, and one of its shape that never was."""
        if cell.name == "number":
            return LINK_OF_A, NEVER_A_LINK
        known = self.stand.ids[cell.state]
        if cell.name == "cursor":
            return self._cursor(cell, known, near=False), self._cursor(cell, known, near=True)
        if cell.name == "key_text":
            return self._key_texts(cell, known["key_text"])
        return known[cell.name], forms.twin(known[cell.name], self.draw)

    def _cursor(self, cell: Cell, known: dict[str, str], *, near: bool) -> str:
        """A place in a list at something of theirs, or beside it, in the form of that list."""

        def one(name: str) -> str:
            # Beside it, or the two would lie elsewhere among B's own things.
            return forms.neighbour(known[name], self.draw) if near else known[name]

        path = cell.place.path
        if path.endswith("/keys"):
            return UUID(one("key")).hex
        if path.endswith(("/devices", "/sharing")):
            return encode_cursor(one("device_id"))
        if path.endswith("/methods"):
            return encode_method_cursor(AT, UUID(one("method")))
        if path.endswith("/providers"):
            # A model is a word of the market: beside it lie the offers that all may see.
            return encode_cursor(known["model"], "0", one("offer"))
        name = "registration" if path.endswith("/registrations") else "bought"
        return encode_cursor(AT.isoformat(), one(name))

    def _key_texts(self, cell: Cell, text: str) -> tuple[str, str]:
        key = parse(text)
        assert key is not None
        secret = self.draw.randbytes(SECRET_BYTES)
        never = ApiKey(
            UUID(int=self.draw.getrandbits(128), version=4),
            UUID(int=self.draw.getrandbits(128), version=4),
            secret,
        )
        # Of a key that works only the secret is another; one that is revoked is shown whole.
        theirs = ApiKey(key.network_id, key.key_id, secret).text() if cell.state == "foreign" else text
        return theirs, never.text()

    # ---- asking ----------------------------------------------------------------------------------------

    async def _ask(self, cell: Cell, value: str, rest: random.Random) -> Seen:
        place = cell.place
        target, headers, body = place.path, await self._credential(cell), None
        for name in re.findall(r"\{(\w+)\}", place.path):
            given = forms.in_path(cell.form, value) if (place.where, place.name) == ("path", name) else None
            target = target.replace(
                f"{{{name}}}", given if given is not None else str(UUID(int=rest.getrandbits(128)))
            )
        slot = slot_of(cell.method, place, cell.name)
        if slot is not None and slot.body is not None:
            body = slot.body(value)
            if place.where == "body":
                # Put in afterwards: what signs the id cannot sign what is none.
                body = _replaced(body, value, forms.in_json(cell.form, value))
        elif (cell.method, place.path) in BODIES:
            body = BODIES[cell.method, place.path]
        elif place.where == "body":
            body = {place.name: forms.in_json(cell.form, value)}
        elif cell.method in ("POST", "PUT", "PATCH"):
            body = {}
        if place.where == "query":
            target += f"?{place.name}={quote(forms.in_text(cell.form, value), safe='')}"
        if place.where == "header":
            headers += self._header(cell, value)
        sent = None if body is None else json.dumps(body).encode()
        if "/admin/" in place.path or cell.method in ("GET", "HEAD", "OPTIONS", "BREW"):
            # Whether a connection outlives a body that nobody reads is chance.
            sent = None if cell.place.where != "body" else sent
        return await self.wire.ask(cell.method, target, headers, sent)

    def _header(self, cell: Cell, value: str) -> list[tuple[str, str]]:
        _, pattern = HEADERS[cell.place.name]
        written = forms.in_text(cell.form, value).encode().decode("latin-1")
        if cell.place.name == "traceparent" and cell.form == PLAIN:
            written = written.replace("-", "")
        headers = [(cell.place.name, pattern.replace("{}", written))]
        if cell.place.name == "x-yggdrasil-order":
            headers.append(("x-yggdrasil-allow-fallbacks", "false"))
        return headers

    async def _credential(self, cell: Cell) -> list[tuple[str, str]]:
        if cell.by == "token":
            return [("authorization", f"Bearer {await self.stand.two.b.token()}")]
        if cell.by == "key":
            return [("authorization", f"Bearer {self.stand.key_b}")]
        return []

    # ---- comparing -------------------------------------------------------------------------------------

    def _compare(self, cell: Cell, there: Seen, nowhere: Seen, theirs: str, nobodys: str) -> str | None:
        if there.status != nowhere.status:
            return f"status {there.status}, {nowhere.status} for an id that never was"
        if there.status == 500:
            return "500: a bug"
        # An echo may by chance be a word of ours: answers that are the same as they stand are the same.
        if _shown(cell, there, "") != _shown(cell, nowhere, ""):
            one, other = _shown(cell, there, theirs), _shown(cell, nowhere, nobodys)
            if one.headers != other.headers:
                return f"headers {set(one.headers) ^ set(other.headers) or 'in another order'}"
            if one.body != other.body:
                return f"body {one.body[:300]!r}, {other.body[:300]!r} for an id that never was"
        if cell.place.path.startswith("/dev/mail"):
            return None  # everybody's mail, on a development server, to whoever sits at it
        for name, value in self.stand.ids["foreign"].items():
            if name in _TELLING and value != theirs and value.encode() in there.body:
                return f"the answer holds A's {name}"
        return None

    async def _frames(self, cell: Cell, written: Any) -> list[Any]:
        two = self.stand.two
        if cell.method == DATA:
            return await frames_after_data(two, pack(written, b"probe"))
        # What stands for the id in the frames is replaced by us, not there.
        heard = written if cell.method == "hello" else "\0"
        return await frames_after(two, cell.method, lambda _: _said(cell.method, written), heard)

    async def _socket(self, cell: Cell, theirs: Any, nobodys: Any) -> Difference | None:
        seen: dict[Any, str] = {}
        for value in self.draw.sample((theirs, nobodys), 2):
            if cell.name == "number":
                written: Any = forms.NUMBER_FORMS[cell.form](value) if cell.form != PLAIN else value
            else:
                written = forms.in_json(cell.form, value)
            frames = await self._frames(cell, written)
            assert frames, "nothing was seen at all"
            told = json.dumps(_unnamed(frames, written))
            seen[value] = _without(told, [json.dumps(written).strip('"'), str(written), str(value)])
        if seen[theirs] == seen[nobodys]:
            return None
        return Difference(str(cell), f"frames {seen[theirs]}, {seen[nobodys]} for an id that never was")


def _said(kind: str, written: Any) -> dict[str, Any]:
    """The message with `written` where it names something."""
    probe = MESSAGES[kind]
    assert probe is not None
    if probe[0] == "device":
        return probe[1](written)
    message = probe[1](str(LINK_OF_A))
    (name,) = (name for name in ("ask", "link") if name in message)
    return {**message, name: written}


_TELLING: Final = frozenset(
    {
        "network",
        "user",
        "device",
        "device_id",
        "provider",
        "key",
        "bought",
        "sold",
        "method",
        "registration",
        "flow",
        "ask",
        "hand_over",
        "invitation",
    }
)


def _replaced(body: Any, value: str, written: Any) -> Any:
    """The body with `written` where the id stands."""
    if isinstance(body, dict):
        return {name: _replaced(item, value, written) for name, item in body.items()}
    if isinstance(body, list):
        return [_replaced(item, value, written) for item in body]
    return written if body == value else body


def _unnamed(seen: Any, number: Any) -> Any:
    """The frames without the number that was sent."""
    if isinstance(seen, dict):
        return {name: _unnamed(item, number) for name, item in seen.items()}
    if isinstance(seen, list | tuple):
        return [_unnamed(item, number) for item in seen]
    return "<id>" if type(seen) is type(number) and seen == number else seen


def _without(text: str, echoes: list[str]) -> str:
    for echo in sorted({one for one in echoes if len(one) >= ECHO_CHARS_MIN}, key=len, reverse=True):
        text = text.replace(echo, "<id>")
    return text


def _shown(cell: Cell, seen: Seen, value: str) -> Seen:
    """The answer less what the asker said himself, and less the time of day where an answer tells it."""
    written = value if cell.form in forms.PATH_FORMS else forms.in_json(cell.form, value)
    said = [value, value.lower(), value.upper(), forms.in_text(cell.form, value), str(written)]
    # As JSON writes it, with the characters escaped and as they are; and as it stands in a path.
    said += [json.dumps(written).strip('"'), json.dumps(written, ensure_ascii=False).strip('"')]
    if cell.place.where == "path":
        said.append(forms.in_path(cell.form, value))
    echoes = {one.encode() for one in said if len(one) >= ECHO_CHARS_MIN}
    body = seen.body
    for echo in sorted(echoes, key=len, reverse=True):
        body = body.replace(echo, b"<id>")
    headers = seen.headers
    if seen.status < 300:
        masked = _TIME.sub(b"<time>", body)
        if cell.place.path in _COUNTS:
            masked = b""
        if masked != body:
            headers = tuple(header for header in headers if header[0] != b"content-length")
        body = masked
    return Seen(seen.status, headers, body)
