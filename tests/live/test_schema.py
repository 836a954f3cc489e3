"""The OpenAPI document against the server it describes: thousands of made-up requests, and no lie, no 500."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CheckContext
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.conftest import SEED
from tests.live.house import House, Script, fund, person, selling
from yggdrasil.vedrfolnir.account import Account

EXAMPLES_MAX = 25
MODEL = "schema-model"
# They would end the very session that asks.
LEFT_OUT = {("DELETE", "/api/v1/users/me"), ("POST", "/api/v1/users/logout")}


def errors_have_one_shape(ctx: CheckContext, response: Any, case: Any) -> None:
    """Problem documents everywhere, OpenAI's error objects below /v1; and never a bug of ours."""
    assert response.status_code != 500
    if response.status_code < 400:
        return
    media_type = response.headers["content-type"][0].partition(";")[0]
    body = response.json()
    if case.path.startswith("/v1/"):
        assert media_type == "application/json"
        assert body["error"]["message"]
        assert body["error"]["code"]
    elif case.path == "/health/ready" and response.status_code == 503:
        assert not all(body.values())
    else:
        assert media_type == "application/problem+json"
        assert body["status"] == response.status_code
        assert body["detail"]
        assert body["type"] == f"/docs/errors/{body['code']}"


def wrong_bodies_are_refused(ctx: CheckContext, response: Any, case: Any) -> None:
    """For bodies alone: a wrong query such as an empty list, or a missing header, is not what gets sent."""
    body = case.meta.components.get(ParameterLocation.BODY)
    if body is not None and body.mode is schemathesis.GenerationMode.NEGATIVE:
        checks.negative_data_rejection(ctx, response, case)


CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    wrong_bodies_are_refused,
    errors_have_one_shape,
]


def attack(
    document: dict[str, Any],
    url: str,
    token: str,
    mode: schemathesis.GenerationMode,
    examples_max: int = EXAMPLES_MAX,
) -> tuple[dict[str, int], list[str]]:
    """Every operation with made-up data. How often each operation was asked, and what was found."""
    schema = schemathesis.openapi.from_dict(document)
    asked: dict[str, int] = {}
    found: list[str] = []
    last = [""]
    with requests.Session() as session:
        session.headers.update({"authorization": f"Bearer {token}", "x-yggdrasil-scope": "own"})
        for result in schema.get_all_operations():
            operation = cast(Ok[Any], result).ok()
            if (operation.method.upper(), operation.path) in LEFT_OUT:
                continue

            @seed(SEED)
            @settings(
                max_examples=examples_max,
                deadline=None,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                asked[case.operation.label] = asked.get(case.operation.label, 0) + 1
                last[0] = case.as_curl_command()
                case.call_and_validate(base_url=url, session=session, checks=CHECKS, timeout=30)

            try:
                ask()
            except Unsatisfiable:
                continue  # no parameters: no wrong data to make up
            except BaseExceptionGroup as failures:
                found += [f"{operation.label}: {failure}\n{last[0]}" for failure in failures.exceptions]
            except (AssertionError, schemathesis.errors.SchemathesisError) as failure:
                found.append(f"{operation.label}: {failure}\n{last[0]}")
    return asked, found


def with_what_exists(document: dict[str, Any], device_id: str) -> dict[str, Any]:
    """Names that are there, so that answers are tried too, and not errors alone."""
    schemas = document["components"]["schemas"]
    for name in ("ChatCompletion", "Embeddings"):
        schemas[name]["properties"]["model"] = {"enum": [MODEL, "nobody-has-this"]}
    for method in ("get", "put"):
        operation = document["paths"]["/api/v1/devices/{device_id}"][method]
        operation["parameters"][0]["schema"] = {"enum": [device_id, "nobody"]}
    return document


@pytest.fixture(scope="module")
async def attacker(house: House) -> AsyncIterator[Account]:
    async with await person(house, "schema") as account:
        await fund(account, 1_000)
        yield account


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
async def test_no_request_finds_a_lie(house: House, attacker: Account, mode: Any) -> None:
    async with httpx.AsyncClient() as http:
        document = (await http.get(f"{house.url}/schema/openapi.json")).json()
    if mode is schemathesis.GenerationMode.POSITIVE:
        document = with_what_exists(document, attacker.identity.device_id)
    async with selling(attacker, model=MODEL, script=Script(), audience="own"):
        asked, found = await asyncio.to_thread(attack, document, house.url, await attacker.token(), mode)
    assert not found, "\n\n".join(found)
    assert sum(asked.values()) > 200
    assert "unexpected" not in house.log()


async def test_the_control_a_document_that_lies_is_caught(house: House, attacker: Account) -> None:
    async with httpx.AsyncClient() as http:
        document = (await http.get(f"{house.url}/schema/openapi.json")).json()
    path = "/api/v1/devices/{device_id}"
    document["paths"] = {path: {"put": document["paths"][path]["put"]}}
    document["paths"][path]["put"]["parameters"][0]["schema"] = {"enum": [attacker.identity.device_id]}
    # Said to need a field that it does not know, and to take names of one letter alone: bodies without the
    # one, or with a longer other, are said to be wrong, and are taken. Two lies: no seed misses both.
    document["components"]["schemas"]["UpdateDevice"] = {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 1}},
        "required": ["no_such_field"],
        "additionalProperties": False,
    }
    token = await attacker.token()
    negative = schemathesis.GenerationMode.NEGATIVE
    _, found = await asyncio.to_thread(attack, document, house.url, token, negative, 150)
    assert any("accepted" in line for line in found), found

    del document["paths"][path]["put"]["responses"]["400"]
    _, found = await asyncio.to_thread(attack, document, house.url, token, negative, 150)
    assert any("status code" in line for line in found), found
