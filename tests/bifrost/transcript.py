"""The transcript in docs/protocol/bifrost-v1.md, made by the machines; run as a module it is printed."""

from __future__ import annotations

from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.bifrost.machines import World
from yggdrasil.wire.messages import ActionAsked, JobOffer

DEVICE_KEY = b"\1" * 32


def transcript() -> str:
    """Two devices and the server: consent, data, an action, a job, a probe, a drain."""
    world = World()
    world.sign = Ed25519PrivateKey.from_private_bytes(DEVICE_KEY).sign
    pc = world.device("pc", device=UUID(int=1))
    phone = world.device("phone", device=UUID(int=2))
    pc.client.discover()
    world.run()
    mine, theirs = world.link(pc, phone)
    pc.client.send(mine, b"hello")
    world.run()
    phone.client.send(theirs, b"hi")
    world.run()
    pc.client.disconnect(mine)
    world.run()
    pc.client.action("phone", "ring", {"seconds": 3}, deadline_ms=5_000, idempotency_id="7f3a")
    world.run()
    asked = phone.of(ActionAsked)[0]
    assert isinstance(asked, ActionAsked)
    phone.client.action_result(asked.ask, True, {"rang": True})
    world.run()
    pc.client.connect("nobody", "files")
    world.run()
    world.open_job(pc, b'{"messages":[{"role":"user","content":"Hi"}]}')
    offer = pc.of(JobOffer)[0]
    assert isinstance(offer, JobOffer)
    pc.client.accept(offer.link)
    pc.client.send(offer.link, b'{"choices":[{"index":0,"delta":{"content":"Hello"}}]}')
    pc.client.done(offer.link, prompt_tokens=8, completion_tokens=1)
    world.run()
    world.now_ms += 25_000
    world.apply(world.core.on_timeout(world.now_ms))
    world.run()
    world.apply(world.core.drain(30_000, world.now_ms))
    world.run()
    return "\n".join(_line(*entry) for entry in world.transcript) + "\n"


def _line(name: str, way: str, frame: str | bytes) -> str:
    if isinstance(frame, str):
        return f"{name:<5} {way} {frame}"
    return f"{name:<5} {way} [{frame[:4].hex(' ')}] {frame[4:].decode()}"


if __name__ == "__main__":
    print(transcript(), end="")
