"""`/docs`: the API, and a page for each error code, where the `type` of a problem document points."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.params import FromPath

from yggdrasil.errors import NotFound
from yggdrasil.reference import api, errors, text


@lru_cache(maxsize=4)
def _document(app: Litestar) -> dict[str, Any]:
    return app.openapi_schema.to_schema()


@lru_cache(maxsize=4)
def _reference(app: Litestar) -> str:
    return api.render(_document(app), errors.codes)


def _page(content: str) -> Response[str]:
    return Response(content, media_type=MediaType.HTML, headers=text.headers())


@get("/", include_in_schema=False)
async def reference(request: Request[Any, Any, Any]) -> Response[str]:
    """The API to read."""
    return _page(_reference(request.app))


@get("/errors", include_in_schema=False)
async def error_codes() -> Response[str]:
    """All error codes."""
    return _page(errors.render_list())


@get("/errors/{code:str}", include_in_schema=False)
async def error_code(code: FromPath[str], request: Request[Any, Any, Any]) -> Response[str]:
    """What a code means, and what to do."""
    if code not in errors.pages():
        raise NotFound
    return _page(errors.render(code, _document(request.app)))


router = Router(path="/docs", route_handlers=[reference, error_codes, error_code])
