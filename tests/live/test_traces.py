"""What an operator's collector gets of a real server: whole traces, and nothing of anybody."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import make_directory
from tests.live.collector import Collector, collecting
from tests.live.house import House, Script, chunk, fund, open_house, person, selling
from tests.live.sockets import call, metric
from tests.live.test_operators import run
from tests.marketplace.upstream_server import FakeUpstream, upstream
from yggdrasil.tracing import trace_id_of
from yggdrasil.vedrfolnir.links import Job

PROMPT, ANSWER, PATH = "prompt-marker-5711", "answer-marker-5712", "path-marker-5713"
HEADER_KEY = "collector-key-5714"
CALLER_TRACE, CALLER_SPAN = "5c" * 16, "3e" * 8
UPSTREAM = """
[[upstream]]
name = "cloud-5715"
base_url = "{url}"
key_file = "cloud.key"
health_seconds = 0.2

[[upstream.models]]
model = "cloud-chat"
upstream_model = "cloud-chat-there"
price_cents = 5
context_tokens_max = 8192
"""
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}]}


@dataclass
class Traced:
    house: House
    collector: Collector
    cloud: FakeUpstream

    async def ended(self, trace_id: str, names: Iterable[str]) -> list[Span]:
        """The spans of a trace, when those of these names are there."""
        wanted = set(names)
        async with asyncio.timeout(20):
            while True:
                spans = [one for one in self.collector.spans() if one.trace_id.hex() == trace_id]
                if wanted <= {one.name for one in spans}:
                    return spans
                await asyncio.sleep(0.1)


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    place = make_directory()
    async with upstream() as cloud:
        with collecting() as collector:
            (place / "upstreams.toml").write_text(UPSTREAM.format(url=cloud.url))
            (place / "cloud.key").write_text("sk-5716")
            (place / "cloud.key").chmod(0o600)
            (place / "headers").write_text(f"Authorization=Bearer {HEADER_KEY}\n")
            more = {
                "YGGDRASIL_UPSTREAMS_FILE": str(place / "upstreams.toml"),
                "YGGDRASIL_OTLP_ENDPOINT": collector.url,
                "YGGDRASIL_OTLP_HEADERS_FILE": str(place / "headers"),
                "YGGDRASIL_OTLP_SAMPLE_RATIO": "1",
                "YGGDRASIL_OTLP_SERVICE_NAME": "edda-test",
                "YGGDRASIL_OTLP_INSTANCE": "node-a",
                "YGGDRASIL_LOG_LEVEL": "debug",
            }
            async with open_house(place, more) as house:
                yield Traced(house, collector, cloud)
    shutil.rmtree(place, ignore_errors=True)


def attributes(span: Span) -> dict[str, str | int]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def parent(span: Span, spans: list[Span]) -> str | None:
    return next((one.name for one in spans if one.span_id == span.parent_span_id), None)


def forms(secret: str) -> list[bytes]:
    """How an identifier may be written."""
    found = [secret.encode(), base64.b64encode(secret.encode()).rstrip(b"="), secret.encode().hex().encode()]
    try:
        whole = UUID(secret)
    except ValueError:
        return found
    return [*found, whole.bytes, whole.hex.encode(), base64.b64encode(whole.bytes).rstrip(b"=")]


def told_of(secrets: dict[str, str], exported: list[bytes]) -> list[str]:
    """The names of the secrets that stand anywhere in what was exported."""
    whole = b"\n".join(exported).lower()
    return [name for name, secret in secrets.items() if any(form.lower() in whole for form in forms(secret))]


def planted(body: bytes, text: str) -> bytes:
    """An export with one thing more in one of its spans."""
    request = ExportTraceServiceRequest.FromString(body)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="planted").value.string_value = text
    return request.SerializeToString()


async def test_a_failover_is_one_trace_and_nobody_is_in_it(traced: Traced) -> None:
    house, collector = traced.house, traced.collector
    jobs: list[str] = []

    async def serve(job: Job) -> None:
        body = await job.body()
        jobs.append(
            repr({name: getattr(job, name, None) for name in ("id", "kind", "model")}) + body.decode()
        )
        if sum(PROMPT in one for one in jobs) == 1 and PROMPT in jobs[-1]:
            job.accept()
            job.fault("internal", "the first one breaks")
            return
        job.accept()
        await job.send(chunk({"content": ANSWER}))
        await job.send(chunk({}, "stop"))
        job.done(prompt_tokens=1, completion_tokens=5)

    sellers = [await person(house, name, device_id=f"{name}-device") for name in ("tr-one", "tr-two")]
    buyer = await person(house, "tr-buyer", device_id="tr-buyer-device")
    async with sellers[0], sellers[1], buyer:
        for seller in sellers:
            await fund(seller)
        await fund(buyer, 1000)
        token = await buyer.token()
        made = await buyer.create_key("tr-key-5717")
        key = made["key"]
        async with (
            selling(sellers[0], model="tr-model", script=Script(serve=serve)),
            selling(sellers[1], model="tr-model", script=Script(serve=serve)),
        ):
            headers = {
                "authorization": f"Bearer {key}",
                "traceparent": f"00-{CALLER_TRACE}-{CALLER_SPAN}-01",
            }
            async with httpx.AsyncClient(base_url=house.url, timeout=30, headers=headers) as http:
                answer = await http.post(
                    "/v1/chat/completions", json={**BODY, "model": "tr-model", "stream": True}
                )
            assert ANSWER in answer.text
            assert sum(PROMPT in one for one in jobs) == 2
            transaction = answer.headers["x-yggdrasil-transaction"]
            offers = (await call(house, "GET", "/api/v1/marketplace/providers", token)).json()
        served = await call(house, "POST", "/v1/chat/completions", key, json={**BODY, "model": "cloud-chat"})
        assert served.status_code == 200, served.text
        refused = await call(house, "GET", f"/api/v1/devices/{PATH}", token)
        assert refused.status_code == 404
        await call(house, "GET", f"/{PATH}?{PATH}=1", token)
        await call(house, "PUT", "/api/v1/users/me", token, json={"display_name": "Display-5718"})
        code, out, error = await run(house, "explain", transaction, "--reason", "was it slow", "--json")
        assert code == 0, error
        explained = json.loads(out)
        trace_id = explained["trace_id"]
        assert trace_id == trace_id_of(UUID(transaction))
        code, out, _ = await run(house, "explain", transaction, "--reason", "for people")
        assert f"trace   {trace_id}" in out
        spans = await traced.ended(trace_id, ["POST /v1/chat/completions", "run", "settlement"])
        session = await buyer.session()
        people = [(await one.devices())[0] for one in (buyer, *sellers)]
        networks = [str((await one.session()).network_id) for one in (buyer, *sellers)]
        assert await metric(house, "yggdrasil_spans_exported_total") > 0
    assert house.stop() == 0

    # One trace, and who is whose child.
    order = sorted(spans, key=lambda one: one.start_time_unix_nano)
    (server,) = [one for one in spans if not one.parent_span_id]
    assert (server.name, server.kind) == ("POST /v1/chat/completions", Span.SPAN_KIND_SERVER)
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "yggdrasil.request_id": answer.headers["x-request-id"],
    }
    assert [(one.trace_id.hex(), one.span_id.hex()) for one in server.links] == [(CALLER_TRACE, CALLER_SPAN)]
    steps = [one for one in order if parent(one, spans) == "run"]
    assert [one.name for one in steps] == ["admission", "attempt", "failover", "attempt", "settlement"]
    assert [parent(one, spans) for one in spans if one.name == "run"] == [server.name]
    first, second = (one for one in steps if one.name == "attempt")
    assert attributes(first)["yggdrasil.attempt.end"] == "failed"
    assert attributes(first)["error.type"] == "fault"
    assert attributes(second)["yggdrasil.attempt.end"] == "completed"
    assert [attributes(one)["yggdrasil.attempt.ordinal"] for one in (first, second)] == [1, 2]
    events = {
        parent_id: [event.name for event in one.events]
        for one in spans
        if one.name == "relay job"
        for parent_id in [one.parent_span_id]
    }
    assert events == {first.span_id: ["accepted"], second.span_id: ["accepted", "first chunk"]}
    (transaction_span,) = [one for one in spans if parent(one, spans) == "failover"]
    assert transaction_span.name == "transaction Records._fail_over_once"
    assert attributes(transaction_span)["yggdrasil.scope"] == "ygg_settle"
    assert [event.name for event in transaction_span.events] == ["begun"]
    under = [one.name for one in spans if one.parent_span_id == transaction_span.span_id]
    assert any("UPDATE platform.attempts" in name for name in under), under

    # Admissions and settlements are written in batches, which belong to no request: traces of their own.
    assert not [one for one in spans if parent(one, spans) in ("admission", "settlement")]
    for batch in ("batch admission", "batch settlement"):
        written = [one for one in collector.spans() if one.name == batch]
        assert written, batch
        assert all(not one.parent_span_id and not one.links and not one.attributes for one in written)
        assert len({one.trace_id for one in written} - {server.trace_id}) == len(written)

    # Refusals say their code; jobs are traces of their own; mail belongs to its request.
    every = collector.spans()
    missing = [one for one in every if one.name == "GET /api/v1/devices/{device_id}"]
    assert [attributes(one)["error.type"] for one in missing] == ["not_found"]
    rounds = [one for one in every if one.name == "job reconciler"]
    assert rounds
    assert all(not one.parent_span_id for one in rounds)
    assert len({one.trace_id for one in rounds}) == len(rounds)
    assert any(one.name.startswith("SQL") and one.trace_id == rounds[0].trace_id for one in every)
    assert {"mail", "job epoch", "socket hello"} <= {one.name for one in every}
    assert {one.status.code for one in every} == {0}

    # The log's lines say which trace they are of.
    lines = [json.loads(line) for line in house.log().splitlines() if line.startswith("{")]
    mine = [one for one in lines if one.get("request_id") == answer.headers["x-request-id"]]
    assert [one["trace_id"] for one in mine] == [trace_id]

    # The collector knows who sends, and is shown its key.
    assert {one["authorization"] for one in collector.headers} == {f"Bearer {HEADER_KEY}"}
    resource = {
        one.key: one.value.string_value
        for one in collector.requests()[0].resource_spans[0].resource.attributes
    }
    assert {"service.name": "edda-test", "service.instance.id": "node-a"}.items() <= resource.items()

    # Nothing of the trace goes on to a device or an upstream, or back.
    asked, body = traced.cloud.requests[0]
    everywhere = [*jobs, repr(asked), repr(body), repr(dict(answer.headers)), answer.text]
    assert not [one for one in everywhere if "traceparent" in one.lower() or trace_id in one]
    assert not [one for one in everywhere if CALLER_TRACE in one]

    # Nobody is in what was exported.
    secrets = {
        "address": "tr-buyer@",
        "name of a person": "Display-5718",
        "device": "tr-buyer-device",
        "device of a seller": "tr-one-device",
        "name of a key": "tr-key-5717",
        "id of a key": made["key_id"],
        "key": key,
        "access token": token,
        "prompt": PROMPT,
        "answer": ANSWER,
        "path": PATH,
        "session": str(session.network_id),
        "model": "tr-model",
        "upstream": "cloud-5715",
        "key of the upstream": "sk-5716",
        "key of the collector": HEADER_KEY,
        "transaction": transaction,
        **{f"network {number}": one for number, one in enumerate(networks)},
        **{f"user {number}": one["user_id"] for number, one in enumerate(people)},
        **{f"internal device {number}": one["id"] for number, one in enumerate(people)},
        **{f"shown offer {number}": one["offer"] for number, one in enumerate(offers["items"])},
        **{
            f"{name} {number}": one[name]
            for number, one in enumerate(explained["attempts"])
            for name in ("attempt_id", "hold_id", "provider_transaction", "provider", "offer", "device")
            if one[name] is not None
        },
    }
    assert len(secrets) > 30
    assert told_of(secrets, collector.bodies) == []
    # The control: each of them would be found, in any of its forms.
    for name, secret in secrets.items():
        assert name in told_of(secrets, [planted(collector.bodies[0], f"to {secret}.")])
    as_bytes = collector.bodies[0] + UUID(networks[0]).bytes
    assert "network 0" in told_of(secrets, [as_bytes])


async def test_a_collector_that_hangs_slows_nothing_down_and_holds_nothing_up() -> None:
    place = make_directory()
    with collecting("hangs") as collector:
        more = {"YGGDRASIL_OTLP_ENDPOINT": collector.url, "YGGDRASIL_OTLP_SAMPLE_RATIO": "1"}
        async with open_house(place, more) as house:
            async with asyncio.timeout(20):
                while not collector.asked:
                    await asyncio.sleep(0.05)
            async with httpx.AsyncClient(base_url=house.url) as http, asyncio.timeout(20):
                # One client, one after another, while the exporter waits: none waits with it.
                for _ in range(300):
                    assert (await http.get("/health/ready")).status_code == 200
            assert house.stop() == 0
    shutil.rmtree(place, ignore_errors=True)
