"""Ids: random, of version 4, and never those of another process."""

from __future__ import annotations

import os
import threading
from uuid import UUID

import pytest

from yggdrasil.kernel import SystemIds


def test_ids_differ_and_are_of_version_4() -> None:
    made: list[UUID] = []
    threads = [
        threading.Thread(target=lambda: made.extend(SystemIds().uuid() for _ in range(5_000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20_000
    assert {(each.version, each.variant) for each in made} == {(4, "specified in RFC 4122")}
    # Every other bit is there and is not: none of them is fixed.
    free = ~((0xF << 76) | (0x3 << 62)) & (2**128 - 1)
    some = every = made[0].int
    for each in made:
        some, every = some | each.int, every & each.int
    assert (some & free, every & free) == (free, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_process_that_forked_has_ids_of_its_own() -> None:
    SystemIds().uuid()  # others are ready now, and the child gets a copy of them
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, SystemIds().uuid().bytes)
        os._exit(0)
    os.close(writer)
    theirs = UUID(bytes=os.read(reader, 16))
    os.close(reader)
    os.waitpid(child, 0)
    assert theirs not in {SystemIds().uuid() for _ in range(300)}
