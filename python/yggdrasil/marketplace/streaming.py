"""The edge's answer that streams a run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from yggdrasil.marketplace.run import Run


class RunStream(Stream):
    """Server-sent events of a run. The run is closed when the answer ends, however it ends.

    Litestar leaves a body alone whose reader went away while it was being sent, or before it began: without
    this, the provider would go on until the deadline.
    """

    def __init__(self, run: Run, body: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        super().__init__(
            body,
            headers={**headers, "cache-control": "no-store"},
            media_type="text/event-stream",
            status_code=200,
        )
        self._run = run
        self._events = body

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        """As Litestar calls it."""
        answer = super().to_asgi_response(*args, **kwargs)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await answer(scope, receive, send)
            finally:
                self._run.close()
                await self._events.aclose()

        # Nothing but its call is used from here on.
        return cast(ASGIResponse, serve)
