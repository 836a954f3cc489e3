"""The hooks of tracing, and an exporter whose collector is down, slow or hostile."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psutil
import pytest

from tests.live.collector import HUGE_BYTES, Behaviour, Collector, collecting
from tests.live.house import free_port
from tests.support import ManualClock, SeededIds
from yggdrasil import otlp, tracing
from yggdrasil.config import Settings, load_settings, otlp_headers, otlp_url
from yggdrasil.db import Database
from yggdrasil.errors import ConfigurationError, NotFound, Unavailable
from yggdrasil.kernel import Market, SystemIds
from yggdrasil.observe import REGISTRY

SECRET = "0f9d3c1e-55aa-4b6c-9e1f-00aa11bb22cc"


@asynccontextmanager
async def tracing_to(url: str, ratio: float = 1.0) -> AsyncIterator[None]:
    settings = Settings(otlp_endpoint=url, otlp_sample_ratio=ratio)
    async with otlp.exporting(settings, ManualClock(), SystemIds()):
        yield


async def exported(collector: Collector, count: int) -> None:
    async with asyncio.timeout(10):
        while len(collector.spans()) < count:
            await asyncio.sleep(0.05)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"yggdrasil_spans_{name}_total", labels) or 0.0


async def test_without_a_collector_nothing_is_made() -> None:
    @tracing.traced("work")
    async def work() -> int:
        tracing.note("http.route", "/x")
        tracing.event("x")
        return 7

    assert tracing.installed is None
    assert tracing.span("x") is tracing.root("y")
    assert await work() == 7
    assert tracing.trace_fields() == {}
    ids, same = SeededIds(1), SeededIds(1)
    assert tracing.new_transaction_id(ids) == same.uuid()


def test_without_a_collector_its_library_is_not_loaded() -> None:
    code = (
        "import sys, yggdrasil.server, yggdrasil.app\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'requests')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
    control = code.replace("yggdrasil.app", "yggdrasil.otlp")
    told = subprocess.run([sys.executable, "-c", control], capture_output=True, text=True, check=True)
    assert "opentelemetry" in told.stdout


async def test_spans_follow_tasks_statements_and_errors(database: Database) -> None:
    @tracing.traced("refused")
    async def refused() -> None:
        raise NotFound("the row of " + SECRET)

    @tracing.traced("broken")
    async def broken() -> None:
        raise ValueError(SECRET)

    with collecting() as collector:
        async with tracing_to(collector.url):
            with tracing.root("job test"):
                async with database.transaction(Market()) as tx:
                    await tx.fetchval("SELECT count(*) FROM platform.models WHERE model = $1", SECRET)
                    await tx.fetchval(f"SELECT '{SECRET}'")
                for failing in (refused, broken):
                    with pytest.raises((NotFound, ValueError)):
                        await asyncio.create_task(failing())
                tracing.note("http.route", SECRET)
                tracing.event(SECRET)
            # After its end, nothing joins a trace, and nothing begins one by itself.
            with tracing.span("late"):
                pass
        spans = {one.name: one for one in collector.spans()}
        assert SECRET.encode() not in b"".join(collector.bodies)
    use_case = "transaction test_spans_follow_tasks_statements_and_errors"
    assert set(spans) == {
        "job test",
        use_case,
        "SQL SELECT platform.models",
        "SQL SELECT",
        "refused",
        "broken",
    }
    assert spans["SQL SELECT"].parent_span_id == spans[use_case].span_id
    assert spans[use_case].parent_span_id == spans["job test"].span_id
    assert spans["refused"].parent_span_id == spans["job test"].span_id
    told = {name: [one.value.string_value for one in span.attributes] for name, span in spans.items()}
    assert (told["refused"], spans["refused"].status.code) == (["not_found"], 0)
    assert (told["broken"], spans["broken"].status.code) == (["ValueError"], 2)
    assert not any(span.events for name, span in spans.items() if name in ("refused", "broken"))
    assert told["job test"] == ["other"]


async def test_what_outlives_a_trace_is_no_part_of_it() -> None:
    with collecting() as collector:
        async with tracing_to(collector.url):
            go = asyncio.Event()

            async def later() -> None:
                await go.wait()
                with tracing.span("late"):
                    pass

            with tracing.root("job test"):
                task = asyncio.create_task(later())
            go.set()
            await task
        assert [one.name for one in collector.spans()] == ["job test"]


async def test_a_trace_has_an_end() -> None:
    before = counted("dropped", reason="trace_limit")
    with collecting() as collector:
        async with tracing_to(collector.url):
            with tracing.root("job test"):
                for _ in range(tracing.SPANS_PER_TRACE_MAX + 9):
                    with tracing.span("step"):
                        pass
        assert len(collector.spans()) == tracing.SPANS_PER_TRACE_MAX
    assert counted("dropped", reason="trace_limit") - before == 10


async def test_a_share_is_sampled_and_a_flag_asks_for_one_more_a_second() -> None:
    sampled = b"00-" + b"5c" * 16 + b"-" + b"3e" * 8 + b"-01"
    with collecting() as collector:
        async with tracing_to(collector.url, ratio=0.25):
            for _ in range(2_000):
                with tracing.root("job test"), tracing.span("step"):
                    pass
        roots = sum(not one.parent_span_id for one in collector.spans())
        assert 380 <= roots <= 620
        assert len(collector.spans()) == 2 * roots
    with collecting() as collector:
        async with tracing_to(collector.url, ratio=0.0):
            assert tracing.installed is not None
            for flags in (
                sampled,
                sampled,
                sampled[:-1] + b"0",
                None,
                b"nonsense",
                b"00-" + b"0" * 32 + sampled[35:],
            ):
                with tracing.installed.request(flags):
                    pass
        assert len(collector.spans()) == 1


async def test_the_first_transaction_of_a_request_names_its_trace() -> None:
    ids = SystemIds()
    with collecting() as collector:
        async with tracing_to(collector.url):
            assert tracing.installed is not None
            with tracing.installed.request(None):
                first, second = tracing.new_transaction_id(ids), tracing.new_transaction_id(ids)
                fields = tracing.trace_fields()
        (span,) = collector.spans()
    assert first != second
    assert isinstance(first, UUID)
    assert first.version == 4
    assert fields == {"trace_id": tracing.trace_id_of(first)}
    assert span.trace_id.hex() == tracing.trace_id_of(first) != first.hex


@pytest.mark.parametrize("behaviour", ["refuses", "fails", "hangs", "endless", "elsewhere", "is away"])
async def test_a_hostile_collector_costs_spans_and_nothing_else(behaviour: str) -> None:
    rounds = 12_000
    lost = {name: counted("dropped", reason=name) for name in ("queue_full", "not_taken")}
    taken = counted("exported")
    known: Behaviour = "takes" if behaviour == "is away" else behaviour  # type: ignore[assignment]
    with collecting(known) as collector:
        url = f"http://127.0.0.1:{free_port()}" if behaviour == "is away" else collector.url
        process = psutil.Process()
        async with tracing_to(url):
            longest = 0.0
            await spans_of(500)
            gc.collect()
            before = process.memory_info().rss
            for _ in range(rounds // 500):
                started = time.thread_time()
                await spans_of(500)
                longest = max(longest, time.thread_time() - started)
            async with asyncio.timeout(10):
                while behaviour != "is away" and not collector.asked:
                    await asyncio.sleep(0.05)
            gc.collect()
            grown = process.memory_info().rss - before
            closing = time.monotonic()
        assert time.monotonic() - closing < otlp.CLOSE_SECONDS_MAX + 1
        assert grown < 48 * 2**20
        assert collector.sent_bytes <= collector.asked * HUGE_BYTES // 16
    lost = {name: counted("dropped", reason=name) - before for name, before in lost.items()}
    if behaviour == "endless":
        assert counted("exported") > taken
    else:
        assert counted("exported") == taken
        assert lost["queue_full"] + lost["not_taken"] > 0
    if behaviour == "hangs":
        assert lost["queue_full"] >= rounds - 2 * otlp.QUEUE_SPANS_MAX
        assert longest < 1.0


async def spans_of(count: int) -> None:
    for _ in range(count):
        with tracing.root("job test") as here:
            assert here is not None
            here.note("yggdrasil.scope", "ygg_system")
    await asyncio.sleep(0)


async def test_a_collector_that_comes_back_gets_what_comes_then() -> None:
    with collecting("fails") as collector:
        async with tracing_to(collector.url):
            await spans_of(5)
            async with asyncio.timeout(20):
                while not collector.asked:
                    await asyncio.sleep(0.05)
            collector.behaviour = "takes"
            await spans_of(1)
        assert collector.spans()


def test_what_a_statement_is_called() -> None:
    assert tracing.summary("SELECT a FROM tenant.holds h JOIN tenant.entries USING (x) WHERE id = '1'") == (
        "SELECT tenant.holds, SELECT tenant.entries"
    )
    assert tracing.summary("insert into jobs.audit (id) VALUES ($1)") == "INSERT jobs.audit"
    assert tracing.summary("SELECT * FROM money.admit($1, $2)") == "SELECT money.admit"
    assert tracing.summary(f"SAVEPOINT {SECRET}") == "SAVEPOINT"
    assert tracing.summary("") == "other"


@pytest.mark.parametrize(
    "text", [SECRET, SECRET.replace("-", ""), "a@b.org", "line\nline", "x" * 121, "1234567", "Ärger", ""]
)
def test_what_looks_like_an_id_or_a_text_is_not_taken(text: str) -> None:
    assert tracing.shown(text) == "other"
    assert tracing.shown("POST /api/v1/devices/{device_id:str}") == "POST /api/v1/devices/{device_id:str}"


def test_errors_are_kinds() -> None:
    assert tracing.kind_of(Unavailable(SECRET)) == "unavailable"
    assert tracing.kind_of(KeyError(SECRET)) == "KeyError"
    assert tracing.kind_of(asyncio.CancelledError()) == "cancelled"


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"OTLP_ENDPOINT": "ftp://collector"}, "otlp_endpoint"),
        ({"OTLP_ENDPOINT": "http://me:secret@collector"}, "otlp_endpoint"),
        ({"OTLP_ENDPOINT": "http://collector:99999"}, "otlp_endpoint"),
        ({"OTLP_ENDPOINT": "https://collector/?key=secret"}, "otlp_endpoint"),
        ({"OTLP_ENDPOINT": "http://collector:4318", "OTLP_HEADERS": "api-key=secret"}, "otlp_headers"),
        ({"OTLP_ENDPOINT": "https://collector", "OTLP_HEADERS": "secret"}, "otlp_headers"),
        ({"OTLP_ENDPOINT": "https://collector", "OTLP_HEADERS": "a=secret\r\nb: c"}, "otlp_headers"),
        ({"OTLP_ENDPOINT": "https://collector", "OTLP_HEADERS": "a=secret," * 17}, "otlp_headers"),
        ({"OTLP_HEADERS": "api-key=secret"}, "otlp_headers"),
        ({"OTLP_SAMPLE_RATIO": "1.5"}, "otlp_sample_ratio"),
        ({"OTLP_SAMPLE_RATIO": "nan"}, "otlp_sample_ratio"),
        ({"OTLP_SERVICE_NAME": ""}, "otlp_service_name"),
    ],
)
def test_a_wrong_setting_is_named_and_not_quoted(environ: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({f"YGGDRASIL_{name}": text for name, text in environ.items()})
    assert caught.value.field == field
    assert "secret" not in caught.value.detail


def test_settings_that_are_right() -> None:
    assert otlp_url("http://127.0.0.1:4318/") == "http://127.0.0.1:4318/v1/traces"
    assert otlp_url("https://collector/otlp/v1/traces") == "https://collector/otlp/v1/traces"
    assert otlp_headers("Authorization=Bearer a=b, x-key = 1,") == {
        "authorization": "Bearer a=b",
        "x-key": "1",
    }
    settings = load_settings(
        {"YGGDRASIL_OTLP_ENDPOINT": "http://[::1]:4318", "YGGDRASIL_OTLP_HEADERS": "api-key=secret"}
    )
    assert "secret" not in repr(settings)
