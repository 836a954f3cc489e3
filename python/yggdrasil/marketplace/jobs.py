"""Whoever takes a compute job: devices by the relay's hub, the operator's upstreams by their adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol
from uuid import UUID

from yggdrasil.bifrost.protocol import Job, JobEvent


class JobLink(Protocol):
    """A job on its way: an iterator of `JobEvent`, as `bifrost.jobs.JobLink` describes it."""

    def __aiter__(self) -> AsyncGenerator[JobEvent, None]: ...

    def cancel(self) -> None:
        """Stop the work; the iteration ends without a last event. Idempotent."""
        ...


class Jobs(Protocol):
    """Takes jobs."""

    def open_job(self, network_id: UUID, device: UUID, job: Job) -> JobLink:
        """NotFound if it is not online."""
        ...

    def online(self, network_id: UUID, device: UUID) -> bool: ...
