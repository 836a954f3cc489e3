"""A device at the hub, with the real client machine, and what it may do with a job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from yggdrasil.kernel import Network
from yggdrasil.wire.client import Client
from yggdrasil.wire.events import JobCancelled, JobReady
from yggdrasil.wire.messages import JobOffer

if TYPE_CHECKING:
    from tests.marketplace.world import World

Behaviour = Callable[["Provider", JobReady], None]


def chunk(text: str | None = None, finish: str | None = None) -> bytes:
    """A chunk as a provider's own server would send it, with all that must not show."""
    delta = {"content": text} if text is not None else {}
    return json.dumps(
        {
            "id": "chatcmpl-PROVIDER-SECRET",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "/home/alice/models/q4.gguf",
            "system_fingerprint": "PROVIDER-SECRET",
            "provider": "alice-pc",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "secret": "PROVIDER-SECRET"}],
        }
    ).encode()


def good(device: Provider, job: JobReady, *, words: int = 5, factor: int = 1) -> None:
    """An honest answer; `factor` makes the claim a lie."""
    client = device.client
    if job.kind == "embeddings":
        inputs = json.loads(job.body)["input"]
        vectors = [{"index": i, "embedding": [0.25, -0.5, float(i)]} for i in range(len(inputs))]
        answer = json.dumps({"object": "list", "model": "secret", "data": vectors}).encode()
        middle = len(answer) // 2
        client.send(job.link, answer[:middle])
        client.send(job.link, answer[middle:])
        client.done(job.link, prompt_tokens=6 * factor, completion_tokens=0)
        return
    for _ in range(words):
        client.send(job.link, chunk(" word"))
    client.send(job.link, chunk(finish="stop"))
    client.done(job.link, prompt_tokens=20 * factor, completion_tokens=words * factor)


def lying(device: Provider, job: JobReady) -> None:
    good(device, job, factor=3)


def fault_first(device: Provider, job: JobReady) -> None:
    device.client.fault(job.link, "out_of_memory", "no room")


def fault_after(device: Provider, job: JobReady) -> None:
    device.client.send(job.link, chunk(" half"))
    device.client.fault(job.link, "out_of_memory", "no room")


def role_then_fault(device: Provider, job: JobReady) -> None:
    """What many servers do: who speaks comes at once, and then nothing more."""
    role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    device.client.send(job.link, json.dumps(role).encode())
    device.client.fault(job.link, "out_of_memory", "no room")


def all_but_done(device: Provider, job: JobReady) -> None:
    """The whole answer, and then the socket is gone."""
    for _ in range(5):
        device.client.send(job.link, chunk(" word"))
    device.client.send(job.link, chunk(finish="stop"))
    device.client.fault(job.link, "crashed", "after the answer")


def silent(device: Provider, job: JobReady) -> None:
    """Accepts and says nothing."""


def half_then_silent(device: Provider, job: JobReady) -> None:
    device.client.send(job.link, chunk(" half"))


def garbage(device: Provider, job: JobReady) -> None:
    device.client.send(job.link, b"\xff not json")


def empty(device: Provider, job: JobReady) -> None:
    device.client.send(job.link, chunk(finish="stop"))
    device.client.done(job.link, prompt_tokens=20, completion_tokens=50)


def too_few_vectors(device: Provider, job: JobReady) -> None:
    device.client.send(job.link, b'{"data": [{"index": 0, "embedding": [1.0]}]}')
    device.client.done(job.link, prompt_tokens=6, completion_tokens=0)


def disconnect(device: Provider, job: JobReady) -> None:
    device.leave()


def endless(device: Provider, job: JobReady) -> None:
    for _ in range(400):
        device.client.send(job.link, chunk(" word"))


class Provider:
    """A device at its socket: the client machine wired to the hub."""

    def __init__(self, world: World, scope: Network, device: UUID, name: str, key: Ed25519PrivateKey) -> None:
        self.world = world
        self.scope = scope
        self.device = device
        self.name = name
        self.key = key
        self.busy = False
        self.refuses: Callable[[], bool] | None = None
        """Asked for each job that is offered, if it is not busy anyway."""
        self.offered: Callable[[], None] | None = None
        """Called when a job is offered, before the answer."""
        self.behaviour: Behaviour = good
        self.jobs: list[JobReady] = []
        self.cancelled: list[int] = []
        self.got_job = asyncio.Event()
        self.got_cancel = asyncio.Event()
        self.client: Client
        self._session: int | None = None
        self._scheduled = False

    async def dial(self) -> None:
        token = f"token-{self.name}-{self.scope.user_id}"
        self.world.tokens[token] = self.scope
        self.client = Client(
            device_id=self.name, token=token, sign=self.key.sign, now=self.world.clock.monotonic()
        )
        self._session = self.world.hub.open(self)
        while not self.world.hub.online(self.scope.network_id, self.device):
            self.pump()
            await asyncio.sleep(0)

    def leave(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            self.world.hub.closed(session)

    # What the hub needs of a socket.

    def wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.pump)

    def say_last(self, frame: str) -> None:
        raise AssertionError(frame)

    def close(self, code: int, reason: str) -> None:
        self._session = None

    def pump(self) -> None:
        self._scheduled = False
        while self._session is not None:
            out = self.client.poll_transmit()
            if out is not None:
                self.world.hub.receive(self._session, out)
                continue
            frame = self.world.hub.pull(self._session)
            if frame is None:
                return
            for event in self.client.receive(frame, self.world.clock.monotonic()):
                self._on(event)

    def _on(self, event: object) -> None:
        if isinstance(event, JobOffer):
            if self.offered is not None:
                self.offered()
            if self.busy or (self.refuses is not None and self.refuses()):
                self.client.busy(event.link, "no slot")
            else:
                self.client.accept(event.link)
        elif isinstance(event, JobReady) and not self.busy:
            self.jobs.append(event)
            self.behaviour(self, event)
            self.got_job.set()
        elif isinstance(event, JobCancelled):
            self.cancelled.append(event.link)
            self.got_cancel.set()
