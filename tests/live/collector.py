"""A stand-in for an operator's OpenTelemetry collector: real HTTP on loopback, the real protobuf messages."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Behaviour = Literal["takes", "refuses", "fails", "hangs", "endless", "elsewhere"]
HUGE_BYTES = 256 * 1024 * 1024


@dataclass
class Collector:
    """What came, as it came. `behaviour` may be changed while it runs."""

    behaviour: Behaviour = "takes"
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    sent_bytes: int = 0
    asked: int = 0
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in list(self.bodies)]

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        body = handler.rfile.read(int(handler.headers["content-length"]))
        match self.behaviour:
            case "takes":
                packed = handler.headers.get("content-encoding") == "gzip"
                self.bodies.append(gzip.decompress(body) if packed else body)
                self.headers.append({name.lower(): value for name, value in handler.headers.items()})
                self._say(handler, 200)
            case "refuses":
                self._say(handler, 400)
            case "fails":
                self._say(handler, 503)
            case "elsewhere":
                self._say(handler, 302, location=f"{self.url}/elsewhere")
            case "hangs":
                self.ended.wait()
            case "endless":
                handler.send_response(200)
                handler.send_header("content-length", str(HUGE_BYTES))
                handler.end_headers()
                for _ in range(HUGE_BYTES // 65_536):
                    handler.wfile.write(b"x" * 65_536)
                    self.sent_bytes += 65_536

    def _say(self, handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
        handler.send_response(status)
        for name, value in {**headers, "content-length": "0"}.items():
            handler.send_header(name, value)
        handler.end_headers()


@contextlib.contextmanager
def collecting(behaviour: Behaviour = "takes") -> Iterator[Collector]:
    collector = Collector(behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with contextlib.suppress(ConnectionError):
                collector.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
