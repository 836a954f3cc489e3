"""One server process: start, serve, watch over the background jobs, drain, stop. Nothing outlives it.

Granian runs inside this process's asyncio loop (docs/decisions/0004), so that kill -9 leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from yggdrasil import tracing
from yggdrasil.app import create_app
from yggdrasil.config import Settings
from yggdrasil.db.store import AUDIT_KEPT, AUDIT_RETENTION, prune_audit
from yggdrasil.errors import ConfigurationError
from yggdrasil.kernel import System, SystemClock, SystemIds
from yggdrasil.observe import LEDGER_SUM, RECONCILED, configure_logging
from yggdrasil.sentinel.sentinel import ROUND_SECONDS
from yggdrasil.services import Services, build

DRAIN_SECONDS_MAX: Final = 10.0
RECONNECT_AFTER_MS: Final = int(DRAIN_SECONDS_MAX * 1000)
"""The hub cuts what is left after this time, so it must not be shorter than running requests may take."""
SOCKETS_MAX: Final = 16_384
HEADER_SECONDS_MAX: Final = 5
HTTP1_BUFFER_BYTES: Final = 64 * 1024

_log = structlog.get_logger("yggdrasil.server")


async def serve(settings: Settings, *, ready: Callable[[Settings], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT; then drain and stop. `ready` is called once requests are taken.

    Errors: ConfigurationError, Unavailable; raised before anything listens.
    """
    configure_logging(settings.log_level)
    _refuse_taken_port(settings)
    _check_data_dir(settings.data_dir)
    _check_certificate(settings)
    _work_in_longer_turns()
    async with _traces(settings), build(settings) as services:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        server = _granian(settings, services)
        serving = asyncio.create_task(server.serve(), name="granian")
        jobs = [asyncio.create_task(_every(*job), name=f"job {job[0]}") for job in _jobs(services)]
        try:
            await _listening(settings, serving)
            # What is here now stays: no later collection has to walk through it.
            gc.collect()
            gc.freeze()
            # Requests make no cycles to speak of: at the usual 700 the collector took 3 % of a chat.
            gc.set_threshold(20_000, 20, 50)
            _give_back()
            _log.info("ready", host=settings.host, port=settings.port, environment=settings.environment)
            if ready is not None:
                ready(settings)
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            _log.info("draining")
            services.hub.drain(RECONNECT_AFTER_MS)
            await services.marketplace.stop(DRAIN_SECONDS_MAX)
            # Every socket sees its close code before the server that carries it goes.
            await services.hub.aclose()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            server.stop()  # type: ignore[no-untyped-call]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(serving), DRAIN_SECONDS_MAX)
            _log.info("stopped")


@contextlib.asynccontextmanager
async def _traces(settings: Settings) -> AsyncIterator[None]:
    """To the operator's collector, if there is one: the library that speaks to it is loaded only then."""
    if settings.otlp_endpoint is None:
        yield
        return
    try:
        from yggdrasil import otlp
    except ImportError as error:
        raise ConfigurationError(
            f"otlp_endpoint: needs the extra `telemetry` ({error.name} is not installed):"
            " pip install 'edda-yggdrasil[server,telemetry]'",
            field="otlp_endpoint",
        ) from None
    async with otlp.exporting(settings, SystemClock(), SystemIds()):
        yield


def _granian(settings: Settings, services: Services) -> Server:
    app = create_app(services)
    services.sentinel.watch(app)
    return Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=True,
        backlog=4096,
        # A permit is held for the life of a socket: this is the most sockets and requests at once.
        backpressure=SOCKETS_MAX,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEADER_SECONDS_MAX * 1000, max_buffer_size=HTTP1_BUFFER_BYTES
        ),
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
        log_enabled=False,
        log_access=False,
    )


def _refuse_taken_port(settings: Settings) -> None:
    """Granian shares ports; two servers on one would each get half of the requests."""
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise ConfigurationError(
                    f"host: {settings.host} is no address of this machine", field="host"
                ) from None
            raise ConfigurationError(
                f"port: {settings.host}:{settings.port} cannot be used: {error.strerror}; "
                "stop what listens there, or choose another port",
                field="port",
            ) from None


def _check_data_dir(data_dir: Path) -> None:
    """Make it if it is not there, and write in it once, before anything else does."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"data_dir: {data_dir} cannot be used: {error.strerror}", field="data_dir"
        ) from None


def _check_certificate(settings: Settings) -> None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    for field, path in (("tls_certificate", settings.tls_certificate), ("tls_key", settings.tls_key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigurationError(f"{field}: cannot read {path}: {error.strerror}", field=field) from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (ssl.SSLError, OSError):
        raise ConfigurationError(
            "tls_certificate: with tls_key it must be a PEM certificate chain and its unencrypted key",
            field="tls_certificate",
        ) from None


def _work_in_longer_turns() -> None:
    """A thread of ours that wakes does not interrupt the one that works (docs/decisions/0009); Linux only.
    The embedded PostgreSQL does as other processes do."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _give_back() -> None:
    """What the start has freed goes back to the system, where the C library knows how (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def _listening(settings: Settings, serving: asyncio.Task[None]) -> None:
    """Until the socket answers; if Granian fails first, its error is ours."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  compared, not bound
    while True:
        if serving.done():
            serving.result()
            raise ConfigurationError("the server ended before it listened", field="port")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, settings.port)
            writer.close()
            return
        await asyncio.sleep(0.02)


def _jobs(services: Services) -> list[tuple[str, float, Callable[[], Awaitable[object]]]]:
    """(name, seconds between rounds, one round)."""

    async def gauge() -> None:
        balance = await services.payments.trial_balance()
        LEDGER_SUM.set(balance.sum_microcents)
        if not balance.sound:
            _log.error("ledger_unbalanced", sum_microcents=balance.sum_microcents)

    async def reconcile() -> None:
        RECONCILED.inc(await services.reconciler.run_once())

    async def prune() -> None:
        before = services.clock.now() - AUDIT_KEPT
        async with services.databases.main.transaction(System(AUDIT_RETENTION)) as tx:
            await prune_audit(tx, before)

    jobs: list[tuple[str, float, Callable[[], Awaitable[object]]]] = [
        ("users", 5.0, services.users.sweep),
        ("reconciler", services.marketplace.settings.reconcile_seconds, reconcile),
        ("top-ups", 10.0, services.topup_reconciler.run_once),
        ("ledger", 60.0, gauge),
        ("audit", 600.0, prune),
        ("quotas", 15.0, services.quotas.refresh),
        ("audit chain", 1.0, services.audit.run_once),
    ]
    if services.settings.isolation_probes_per_minute:
        jobs.append(("isolation", ROUND_SECONDS, services.sentinel.run_once))
    if services.databases.embedded is not None:
        jobs.append(("database", 0.25, services.databases.ensure_running))
    return jobs


async def _every(name: str, seconds: float, job: Callable[[], Awaitable[object]]) -> None:
    """Rounds of a job for ever. A round that fails is logged and followed by the next."""
    while True:
        try:
            # The look at the embedded database is no work: four times a second.
            with contextlib.nullcontext() if name == "database" else tracing.root(f"job {name}"):
                await job()
        except Exception as error:
            _log.warning("job_failed", job=name, error=type(error).__name__, exc_info=error)
        await asyncio.sleep(seconds)
