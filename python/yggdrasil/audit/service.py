"""The audit of a running server: what is heard of unknown ids, and the job that links and signs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from yggdrasil.audit.chain import Signing
from yggdrasil.audit.chainer import Chainer
from yggdrasil.audit.events import actor_of
from yggdrasil.audit.heads_file import HeadsFile
from yggdrasil.audit.unknown import UnknownIds
from yggdrasil.db import Database
from yggdrasil.edge import CALLER
from yggdrasil.kernel import SENTINEL_NETWORKS, Clock, IdSource, Network
from yggdrasil.keys import KeyRing


class Asker(Protocol):
    """Who holds a socket, as the relay keeps it."""

    @property
    def network_id(self) -> UUID: ...
    @property
    def user_id(self) -> UUID: ...
    @property
    def key_id(self) -> UUID | None: ...


class Audit:
    """`heads`: the file of signed heads. `run_once` every second, `close` at a stop."""

    def __init__(
        self, database: Database, clock: Clock, ids: IdSource, ring: KeyRing, heads: Path | None
    ) -> None:
        self.signing = Signing(ring)
        self.unknown = UnknownIds(clock, ids, ring)
        self.chainer = Chainer(
            database,
            clock,
            ids,
            self.signing,
            None if heads is None else HeadsFile(heads),
            news=self.unknown.take,
        )
        self.run_once = self.chainer.run_once

    def not_found(self, scope: Mapping[str, Any]) -> None:
        """The ASGI scope of a request that led to nothing. If we know who asked, the path held an id that is
        not there."""
        asker = scope.get(CALLER)
        if isinstance(asker, Network):
            self.missing(asker, scope["path"])

    def missing(self, scope: Network, asked: str) -> None:
        """Somebody asked for an id that is not there."""
        # The server's own canaries ask for nothing else, all day.
        if scope.network_id not in SENTINEL_NETWORKS:
            self.unknown.note(scope.network_id, actor_of(scope), scope.user_id, asked)

    def unknown_device(self, asker: Asker, device_id: str) -> None:
        """A socket asked for a device that is not in its network."""
        self.missing(Network(asker.network_id, asker.user_id, key_id=asker.key_id), device_id)

    async def close(self) -> None:
        """What open windows counted, and everything that waits."""
        await self.chainer.close(self.unknown.take_all())
