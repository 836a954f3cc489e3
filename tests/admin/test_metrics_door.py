"""`/metrics` is for this machine and for operators: to everybody else it is an unknown path."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from yggdrasil.admin.door import OperatorDoor

HERE = (b"host", b"127.0.0.1:8480")


async def reached(
    client: str, *headers: tuple[bytes, bytes], path: str = "/metrics", behind_proxy: bool = False
) -> bool:
    """Whether the request arrives at the path it named."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    async def find(authorization: str | None) -> object | None:
        return object() if authorization == "Bearer ygo_right" else None

    door = OperatorDoor(cast(Any, app), cast(Any, SimpleNamespace(find=find)), behind_proxy=behind_proxy)
    scope = {"type": "http", "path": path, "client": (client, 1), "headers": list(headers)}
    await door(cast(Any, scope), cast(Any, None), cast(Any, None))
    return seen == [path]


async def test_a_collector_on_this_machine_reads_it() -> None:
    assert await reached("127.0.0.1", HERE)
    assert await reached("::1", (b"host", b"[::1]:8480"))


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics"])
async def test_nobody_elsewhere_does(path: str) -> None:
    assert not await reached("203.0.113.7", HERE, path=path)


async def test_neither_who_is_forwarded_nor_a_web_page_elsewhere() -> None:
    assert not await reached("127.0.0.1", HERE, (b"x-forwarded-for", b"203.0.113.7"))
    assert not await reached("127.0.0.1", (b"host", b"rebound.example"))


async def test_behind_a_proxy_nobody_is_on_this_machine() -> None:
    assert not await reached("127.0.0.1", HERE, behind_proxy=True)


async def test_an_operator_reads_it_from_anywhere() -> None:
    right = (b"authorization", b"Bearer ygo_right")
    assert await reached("203.0.113.7", HERE, right)
    assert await reached("127.0.0.1", HERE, right, behind_proxy=True)
