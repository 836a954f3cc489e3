"""Company offers: the operator's own OpenAI-compatible servers as providers of the platform's network.

Nobody registered them: their offers stand in a file. What they say is checked, counted and paid like what any
stranger says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from yggdrasil.bifrost.protocol import Job
from yggdrasil.errors import NotFound
from yggdrasil.kernel import PLATFORM_NETWORK
from yggdrasil.marketplace.jobs import JobLink, Jobs
from yggdrasil.marketplace.requests import Offer
from yggdrasil.marketplace.upstream_settings import KeyedUpstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from yggdrasil.marketplace.upstream_provider import UpstreamProvider

    Presence = Callable[[UUID, UUID, bool], None]


class Upstreams:
    """Takes the jobs of the platform's network to the operator's upstreams, all others to `devices`."""

    def __init__(self, devices: Jobs, keyed: Sequence[KeyedUpstream], presence: Presence) -> None:
        self._devices = devices
        self._providers: dict[UUID, UpstreamProvider] = {}
        if keyed:
            # Its HTTP client takes 6 MiB, which a server without upstreams need not carry.
            from yggdrasil.marketplace.upstream_provider import UpstreamProvider

            providers = (UpstreamProvider(each, presence) for each in keyed)
            self._providers = {provider.device: provider for provider in providers}

    def offers(self) -> list[Offer]:
        """Every offer of every upstream."""
        return [offer for provider in self._providers.values() for offer in provider.offers()]

    async def start(self) -> None:
        """Begin to look who is there."""
        for provider in self._providers.values():
            await provider.start()

    async def stop(self) -> None:
        """Hang up everything."""
        for provider in self._providers.values():
            await provider.stop()

    def open_job(self, network_id: UUID, device: UUID, job: Job) -> JobLink:
        """See `Jobs`."""
        if network_id != PLATFORM_NETWORK:
            return self._devices.open_job(network_id, device, job)
        provider = self._providers.get(device)
        if provider is None:
            raise NotFound
        return provider.open_job(job)

    def online(self, network_id: UUID, device: UUID) -> bool:
        """See `Jobs`."""
        if network_id != PLATFORM_NETWORK:
            return self._devices.online(network_id, device)
        provider = self._providers.get(device)
        return provider is not None and provider.online
