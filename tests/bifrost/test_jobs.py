"""Compute jobs between the relay and the device's machine, back to back."""

from __future__ import annotations

import pytest

from tests.bifrost.machines import World
from yggdrasil.wire.events import JobCancelled, JobReady
from yggdrasil.wire.limits import WINDOW_BYTES
from yggdrasil.wire.messages import JobOffer

DOCUMENT = b'{"choices":[]}'


def one(events: list[object]) -> object:
    assert len(events) == 1, events
    return events[0]


def test_a_job_from_offer_to_done() -> None:
    world = World()
    pc = world.device("pc")
    body = bytes(range(256)) * 800  # 200 KiB
    job = world.open_job(pc, body)
    offer = one(pc.of(JobOffer))
    assert (offer.kind, offer.model, offer.bytes, offer.deadline_ms) == ("chat", "tiny", len(body), 60_000)
    assert one(pc.of(JobReady)).body == body
    assert world.take(job) == (False, [], None)
    pc.client.accept(offer.link)
    world.run()
    assert world.take(job) == (True, [], None)
    pc.client.send(offer.link, DOCUMENT)
    pc.client.send(offer.link, DOCUMENT)
    pc.client.done(offer.link, prompt_tokens=3, completion_tokens=2)
    world.run()
    assert world.take(job) == (False, [DOCUMENT, DOCUMENT], ("done", 3, 2))
    assert world.take(job) is None
    assert world.core.counts() == (1, 0)


def test_a_body_larger_than_the_window_flows_within_credit() -> None:
    world = World()
    pc = world.device("pc")
    body = bytes(3 * WINDOW_BYTES)
    world.open_job(pc, body)
    assert one(pc.of(JobReady)).body == body


def test_answers_flow_as_they_are_taken() -> None:
    world = World()
    pc = world.device("pc")
    job = world.open_job(pc)
    link = one(pc.of(JobOffer)).link
    pc.client.accept(link)
    for _ in range(16):
        pc.client.send(link, bytes(60_000))
    pc.client.done(link, prompt_tokens=1, completion_tokens=1)
    world.run()
    accepted, parts, end = world.take(job)
    assert (accepted, len(parts), end) == (True, WINDOW_BYTES // 60_004, None)
    total = len(parts)
    takes = 1
    while end is None:
        _, parts, end = world.take(job)
        total += len(parts)
        takes += 1
        assert takes < 20, "taking must let it go on"
    assert total == 16
    assert end == ("done", 1, 1)


@pytest.mark.parametrize(
    ("act", "end"),
    [
        (lambda client, link: client.busy(link, "full"), ("busy", "full")),
        (lambda client, link: client.fault(link, "model", "broke"), ("fault", "model", "broke")),
    ],
)
def test_a_job_refused(act: object, end: object) -> None:
    world = World()
    pc = world.device("pc")
    job = world.open_job(pc)
    act(pc.client, one(pc.of(JobOffer)).link)
    world.run()
    assert world.take(job) == (False, [], end)


def test_a_job_lost_timed_out_and_cancelled() -> None:
    world = World()
    pc = world.device("pc")
    job = world.open_job(pc, deadline_ms=2_000)
    link = one(pc.of(JobOffer)).link
    pc.client.accept(link)
    pc.client.send(link, DOCUMENT)
    world.advance(2)
    assert world.take(job) == (True, [DOCUMENT], ("fault", "timeout", "the deadline passed"))
    assert pc.of(JobCancelled) == [JobCancelled(link)]
    job = world.open_job(pc)
    world.advance(10)
    assert world.take(job) == (False, [], ("fault", "timeout", "the device did not accept in time"))
    job = world.open_job(pc)
    world.apply(world.core.cancel_job(job, world.now_ms))
    world.apply(world.core.cancel_job(job, world.now_ms))
    world.run()
    assert len(pc.of(JobCancelled)) == 3
    assert world.take(job) is None
    job = world.open_job(pc)
    world.hang_up(pc)
    assert world.take(job) == (False, [], ("fault", "lost", "the device's socket is gone"))
    assert world.core.next_timeout() is None


def test_all_links_in_use_is_busy() -> None:
    world = World(links_max=1)
    pc = world.device("pc")
    world.open_job(pc)
    second = world.open_job(pc)
    assert world.take(second) == (False, [], ("busy", "the device has all its links in use"))
