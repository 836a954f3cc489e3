"""A request's body at the edge, where time can be made short."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from litestar import Litestar, post
from litestar.params import JSONBody

from yggdrasil import edge, problems
from yggdrasil.edge import EdgeRequest, decode_body
from yggdrasil.errors import InvalidInput


class Body(msgspec.Struct, forbid_unknown_fields=True):
    count: int
    inner: list[dict[str, Any]] = []


@post("/")
async def take(data: JSONBody[Body]) -> int:
    return data.count


async def test_a_body_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_SECONDS_MAX", 0.05)
    app = Litestar(
        [take],
        request_class=EdgeRequest,
        exception_handlers={Exception: problems.handle},
        openapi_config=None,
    )
    sent: list[Any] = []
    parts = [{"type": "http.request", "body": b'{"count"', "more_body": True}]

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1), "scheme": "http",
        "server": ("127.0.0.1", 80), "http_version": "1.1", "asgi": {"version": "3.0"}, "extensions": {},
        "state": {},
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 5)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["field"] == "body"


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ('{"count": "5"}', "count", "Expected `int`, got `str`"),
        ('{"count": 5.0}', "count", "got `float`"),
        ("{}", "count", "must be given"),
        ('{"count": 1, "other": 2}', "other", "no such field"),
        ('{"count": 1, "inner": [{}, 3]}', "inner[1]", "Expected `object`, got `int`"),
        ('{"count": 1, "inner": [{"a": "\\u0000"}]}', "inner.a", "NUL"),
        ('{"count": 1, "inner": [{"\\u0000": 1}]}', "inner", "NUL"),
        ('{"count": 1, "inner": [' + "[" * 5_000, "inner[0]", "got `array`"),
        ('{"count": 1, "inner": [' + '{"a":' * 100 + "1" + "}" * 100 + "]}", "body", "nested"),
        ('{"count": 1, "inner": [' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "]}", "body", "nested"),
        ("", "body", "must be JSON"),
        ('{"count": NaN}', "body", "must be JSON"),
        ('{"count": 1}\0', "body", "must be JSON"),
        ('{"count": 1, "' + "x" * 5_000 + '": 1}', "x" * 64, "no such field"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_body_is_named(text: str, field: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        decode_body(text.encode(), Body)
    assert caught.value.field == field
    assert len(caught.value.detail) < 300


def test_what_only_looks_like_nul_or_depth_is_taken() -> None:
    text = r'{"count": 1, "inner": [{"a": "\\u0000"}]}'
    assert decode_body(text.encode(), Body).inner == [{"a": r"\u0000"}]
    flat = '{"count": 1, "inner": [' + ",".join(["{}"] * 500) + "]}"
    assert len(decode_body(flat.encode(), Body).inner) == 500
