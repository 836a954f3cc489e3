"""The pages a server shows of itself: whole, of its own making, and no other host is asked for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from litestar import Litestar

from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.app import create_app
from yggdrasil.config import Settings
from yggdrasil.kernel import SystemClock, SystemIds
from yggdrasil.reference import api, errors, text

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def app() -> Litestar:
    # The services are never asked: these pages come from the routes alone.
    mailer = DevMailer(SystemClock(), development=True)
    return create_app(Mock(mailer=mailer, ids=SystemIds(), settings=Settings()))


@pytest.fixture(scope="module")
def document(app: Litestar) -> dict[str, Any]:
    return app.openapi_schema.to_schema()


@pytest.fixture(scope="module")
async def http(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://yggdrasil") as client:
        yield client


def test_a_wheel_carries_the_error_pages_as_they_are() -> None:
    spec = spec_from_file_location("error_pages", ROOT / "tools/error_pages.py")
    assert spec is not None
    assert spec.loader is not None
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PACKED.read_text(encoding="utf-8") == tool.packed(), "run python tools/error_pages.py"


PAGES = ["/docs", "/docs/errors", *(f"/docs/errors/{code}" for code in errors.pages())]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_stands_alone(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert not re.search(
        r"<script|<link|<img|<iframe|<form|\ssrc=|\sstyle=|\son\w+=|@import|url\(", answer.text
    )
    assert not re.search(r'href="(?![#/])', answer.text)
    assert "//" not in "".join(re.findall(r'href="([^"]*)"', answer.text))


async def test_every_link_leads_somewhere(http: httpx.AsyncClient) -> None:
    places = set(re.findall(r'id="([^"]+)"', (await http.get("/docs")).text))
    for path in PAGES:
        for link in set(re.findall(r'href="([^"]+)"', (await http.get(path)).text)):
            page, _, anchor = link.partition("#")
            if page:
                assert (await http.get(page)).status_code == 200, link
            if anchor:
                assert anchor in places, link


async def test_every_operation_and_every_shape_is_there(
    http: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    page = (await http.get("/docs")).text
    sections = re.findall(r'<section id="([^"]+)">', page)
    assert len(sections) == len(set(sections))
    every = api.operations(document)
    assert len(every) > 40
    assert len(sections) == len(every) + len(document["components"]["schemas"])
    for each in every:
        assert f'<section id="{each.anchor}">' in page
        for parameter in each.said.get("parameters", ()):
            section = page.split(f'<section id="{each.anchor}">')[1].split("</section>")[0]
            assert f"<code>{parameter['name']}</code>" in section


async def test_the_type_of_a_problem_is_its_page(http: httpx.AsyncClient) -> None:
    problem = (await http.get("/no/such/thing")).json()
    page = await http.get(problem["type"])
    assert page.status_code == 200
    assert "<h1><code>not_found</code></h1>" in page.text
    unknown = await http.get("/docs/errors/no_such_code")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


def test_each_code_of_the_tree_has_its_page() -> None:
    assert set(errors.statuses()) <= set(errors.pages())


def test_codes_that_come_from_few_operations_name_real_ones(document: dict[str, Any]) -> None:
    every = {(each.method, each.path): each for each in api.operations(document)}
    for code, places in errors._ONLY.items():
        for place in places:
            assert code in errors.codes(every[place], errors.statuses()[code]), (code, place)


@pytest.mark.parametrize("code", sorted(errors.pages()))
def test_an_error_page_uses_no_markdown_we_do_not_know(code: str) -> None:
    shown = re.sub(r"<[^>]*>", "", text.blocks(errors.pages()[code]))
    assert not re.search(r"\*\*|`|\]\(|^#|^\|", shown, re.MULTILINE), shown


def test_what_a_document_says_is_text_and_never_markup() -> None:
    evil = '<script>alert(1)</script>" onload="x'
    made = {
        "info": {"title": evil, "version": "1"},
        "paths": {
            "/" + evil: {
                "get": {
                    "tags": [evil],
                    "summary": evil,
                    "description": f"{evil} `{evil}` **{evil}** [{evil}](javascript:x)",
                    "parameters": [
                        {"name": evil, "in": "query", "schema": {"enum": [evil], "description": evil}}
                    ],
                    "responses": {"200": {"content": {evil: {"schema": {"type": evil, "default": evil}}}}},
                }
            }
        },
        "components": {"schemas": {evil: {"type": "object", "properties": {evil: {"$ref": evil}}}}},
    }
    page = api.render(made, lambda *_: [])
    assert "<script" not in page
    assert 'onload="x' not in page
    assert 'href="javascript' not in page


def test_an_example_is_the_least_that_fits() -> None:
    schemas = {
        "Inner": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 2}}}
    }
    schema = {
        "type": "object",
        "required": ["a", "b", "c"],
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Inner"}},
            "c": {"enum": ["x", "y"]},
            "left_out": {"type": "boolean"},
        },
    }
    assert api.example(schema, schemas, 0) == {"a": "…", "b": [{"n": 2}], "c": "x"}
