"""Traces to an OpenTelemetry collector, by OTLP over HTTP. Imported only where one is configured.

Spans wait in a bounded queue for a thread that sends them in batches: a collector that is down, slow or
hostile costs spans, which are counted, and never a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal

import requests
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from prometheus_client import Counter

from yggdrasil import __version__, tracing
from yggdrasil.config import Settings, otlp_headers, otlp_url
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.observe import REGISTRY

QUEUE_SPANS_MAX: Final = 4_096
BATCH_SPANS_MAX: Final = 512
BATCH_SECONDS: Final = 2.0
SEND_SECONDS_MAX: Final = 5.0
"""For one batch, with what is tried again of it."""
CLOSE_SECONDS_MAX: Final = 2.0
ATTRIBUTES_MAX: Final = 16
EVENTS_MAX: Final = 16
ATTRIBUTE_CHARS_MAX: Final = 128

EXPORTED: Final = Counter("yggdrasil_spans_exported", "Spans the collector took.", registry=REGISTRY)
DROPPED: Final = Counter(
    "yggdrasil_spans_dropped",
    "Spans that are lost: the queue was full, the collector did not take them, or their trace was too long.",
    ["reason"],
    registry=REGISTRY,
)

_log = structlog.get_logger("yggdrasil.otlp")


class _StatusOnly(requests.Session):
    """Reads an answer's head and hangs up: its body says nothing that we need, and may have no end."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().request(*args, **{**kwargs, "stream": True})
        response.close()
        if 300 <= response.status_code < 400:
            # Followed by nobody, and the exporter would take it for success.
            raise requests.exceptions.InvalidURL("the collector sends elsewhere")
        return response


class _Counted(SpanExporter):
    """Another exporter, with its results counted and a change of them logged once."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._works = True
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._inner.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        finally:
            self.taken += len(spans)
        works = result is SpanExportResult.SUCCESS
        if works:
            EXPORTED.inc(len(spans))
        else:
            DROPPED.labels("not_taken").inc(len(spans))
        if works != self._works:
            self._works = works
            if works:
                _log.info("the collector takes traces again")
            else:
                _log.warning("the collector takes no traces")
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _Bounded(BatchSpanProcessor):
    """Counts what does not fit into the queue, instead of a log line for each."""

    def __init__(self, exporter: _Counted) -> None:
        super().__init__(
            exporter,
            max_queue_size=2 * QUEUE_SPANS_MAX,
            schedule_delay_millis=BATCH_SECONDS * 1000,
            max_export_batch_size=BATCH_SPANS_MAX,
        )
        self._exporter = exporter
        self._given = 0

    def on_end(self, span: ReadableSpan) -> None:
        # Waiting, or on their way. Two counters, each written by one thread.
        if self._given - self._exporter.taken >= QUEUE_SPANS_MAX:
            DROPPED.labels("queue_full").inc()
            return
        self._given += 1
        super().on_end(span)


class _Ids(IdGenerator):
    """Trace ids are chosen by `tracing`; span ids are random."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids
        self.trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return int.from_bytes(self._ids.secret(8)) or 1

    def is_trace_id_random(self) -> bool:
        return True


class OtlpRecorder:
    """Makes spans and sends them to `url`. See `tracing.Recorder`."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        *,
        service_name: str,
        instance: str,
        ids: IdSource,
    ) -> None:
        session = _StatusOnly()
        session.trust_env = False  # no proxy and no credentials but those of the settings
        exporter = OTLPSpanExporter(
            url, headers=headers, timeout=SEND_SECONDS_MAX, compression=Compression.Gzip, session=session
        )
        self._ids = _Ids(ids)
        self._processor = _Bounded(_Counted(exporter))
        self._exporter = exporter
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is sampled was decided before a span is made
            resource=Resource(
                {
                    "service.name": service_name,
                    "service.instance.id": instance,
                    "service.version": __version__,
                }
            ),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(
                max_span_attributes=ATTRIBUTES_MAX,
                max_events=EVENTS_MAX,
                max_links=1,
                max_span_attribute_length=ATTRIBUTE_CHARS_MAX,
            ),
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("yggdrasil", __version__)

    def start(
        self, name: str, parent: Any, trace_id: int, link: tuple[int, int] | None, *, server: bool
    ) -> Any:
        self._ids.trace_id = trace_id
        context = Context() if parent is None else set_span_in_context(parent, Context())
        links = [Link(SpanContext(*link, is_remote=True, trace_flags=TraceFlags(0)))] if link else None
        kind = SpanKind.SERVER if server else SpanKind.INTERNAL
        return self._tracer.start_span(name, context, kind=kind, links=links, record_exception=False)

    def end(self, span: Any, error: str | None, *, fault: bool) -> None:
        if error is not None:
            span.set_attribute("error.type", error)
        if fault:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def dropped(self, reason: Literal["trace_limit"]) -> None:
        DROPPED.labels(reason).inc()

    async def close(self) -> None:
        """Send what waits, for a moment; then give up."""
        flushed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def flush() -> None:
            self._processor.force_flush()
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(flushed.set)

        # A daemon: a collector that hangs must not keep the process.
        threading.Thread(target=flush, name="otlp: last batch", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(flushed.wait(), CLOSE_SECONDS_MAX)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # theirs has no types
        threading.Thread(target=self._processor.shutdown, name="otlp: end", daemon=True).start()


@contextlib.asynccontextmanager
async def exporting(settings: Settings, clock: Clock, ids: IdSource) -> AsyncIterator[None]:
    """Trace this process while inside. `settings.otlp_endpoint` must be set."""
    # Its lines repeat for every batch, and quote what the collector answers.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    recorder = OtlpRecorder(
        otlp_url(settings.otlp_endpoint or ""),
        otlp_headers(settings.otlp_headers or ""),
        service_name=settings.otlp_service_name,
        instance=settings.otlp_instance or str(ids.uuid()),
        ids=ids,
    )
    tracing.install(tracing.Tracing(recorder, settings.otlp_sample_ratio, clock, ids))
    try:
        yield
    finally:
        tracing.install(None)
        await recorder.close()
