"""The pages of the error codes: `docs/errors/*.md`, which a wheel carries as one file made of them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from yggdrasil.errors import ConfigurationError, ProtocolViolation, YggdrasilError
from yggdrasil.reference import api, text

_COMPUTE: Final = frozenset(
    ("post", path)
    for path in ("/api/v1/marketplace/requests", "/v1/chat/completions", "/v1/embeddings", "/v1/responses")
)
_ONLY: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    "no_provider": _COMPUTE,
    "insufficient_funds": _COMPUTE,
    "money_overflow": _COMPUTE | {("post", "/api/v1/payments/process")},
    "spend_limit_reached": _COMPUTE,
    "code_rejected": frozenset({("post", "/api/v1/users/verify"), ("post", "/api/v1/users/hand-overs/take")}),
}
"""Codes that share their status with others, and the operations they come from."""


@cache
def pages() -> dict[str, str]:
    """The Markdown of each code's page."""
    return msgspec.json.decode((files(__package__) / "error_pages.json").read_bytes(), type=dict[str, str])


@cache
def statuses() -> dict[str, int]:
    """The HTTP status of each code that a request can be answered with."""
    kinds: list[type[YggdrasilError]] = [YggdrasilError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    # These two are told to operators and on sockets.
    answered = [kind for kind in kinds if kind not in (ConfigurationError, ProtocolViolation)]
    return {kind.code: kind.status for kind in sorted(answered, key=lambda kind: kind.code)}


def codes(operation: api.Operation, status: int) -> list[str]:
    """What a status of an operation can stand for."""
    return [code for code, its in statuses().items() if its == status and _is_able(operation, code)]


def _is_able(operation: api.Operation, code: str) -> bool:
    places = _ONLY.get(code)
    return str(statuses()[code]) in operation.said["responses"] and (
        places is None or (operation.method, operation.path) in places
    )


def render(code: str, document: Mapping[str, Any]) -> str:
    """The page of a code; which operations can answer so is at its end."""
    able = [each for each in api.operations(document) if code in statuses() and _is_able(each, code)]
    items = "".join(
        f'<li><a href="/docs#{each.anchor}"><span class="method {each.method}">{each.method}</span>'
        f' <span class="path">{html.escape(each.path)}</span></a></li>'
        for each in able
    )
    some = (
        f"<details><summary>Operations that can answer so ({len(able)})</summary><ul>{items}</ul></details>"
    )
    back = (
        '<p class="soft"><a href="/docs/errors">All error codes</a> · <a href="/docs">API reference</a></p>'
    )
    return text.page(
        code, f'<main class="alone">{text.blocks(pages()[code])}{some if able else ""}{back}</main>'
    )


def render_list() -> str:
    """All codes."""
    rows = ""
    for code, markdown in sorted(pages().items()):
        meaning = next((line for line in markdown.splitlines() if line.startswith("**What it means.**")), "")
        words = text.inline(meaning.removeprefix("**What it means.**").strip())
        status = statuses().get(code, "")
        link = f'<a class="path" href="/docs/errors/{code}">{code}</a>'
        rows += f"<tr><td>{link}<br><span class='soft'>{status}</span></td><td>{words}</td></tr>"
    body = f'<h1>Error codes</h1><p class="soft"><a href="/docs">API reference</a></p><table>{rows}</table>'
    return text.page("Error codes", f'<main class="alone">{body}</main>')
