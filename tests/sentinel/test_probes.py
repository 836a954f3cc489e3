"""What is tried, and how two answers are told apart."""

from __future__ import annotations

import pytest

from yggdrasil.sentinel.asking import Answer
from yggdrasil.sentinel.probes import MESSAGES, Probe, difference, probes_of

FOREIGN, ABSENT = "id-of-theirs", "id-of-nobody"
HEADERS = ((b"content-type", b"application/problem+json"),)


def answer(
    status: int = 404, body: bytes = b"absent", headers: tuple[tuple[bytes, bytes], ...] = HEADERS
) -> Answer:
    return Answer(status, headers, body)


def test_every_path_with_a_place_for_an_id_is_tried() -> None:
    routes = [
        ("/api/v1/things", {"GET", "POST"}),
        ("/api/v1/things/{thing_id:uuid}", {"GET", "DELETE", "OPTIONS"}),
        ("/api/v1/things/{thing_id:uuid}/parts/{part:str}", {"PUT"}),
        ("/docs/errors/{code:str}", {"GET"}),
        ("/schema/{path:path}", {"GET"}),
    ]
    assert list(probes_of(routes)) == [
        Probe("DELETE", "/api/v1/things/{thing_id:uuid}"),
        Probe("GET", "/api/v1/things/{thing_id:uuid}"),
        Probe("PUT", "/api/v1/things/{thing_id:uuid}/parts/{part:str}"),
        *MESSAGES,
    ]


def test_the_id_fills_every_place() -> None:
    assert Probe("PUT", "/a/{one:uuid}/b/{two:str}").filled("x") == "/a/x/b/x"


@pytest.mark.parametrize(
    ("foreign", "absent", "said"),
    [
        (answer(200), answer(200), "a foreign id was answered with 200"),
        (answer(403), answer(404), "status 403 for a foreign id, 404 for an absent one"),
        (answer(headers=(*HEADERS, (b"etag", b"1"))), answer(), "headers differ: etag"),
        (answer(body=b"it is not yours"), answer(), "bodies differ"),
        (answer(body=b"of " + ABSENT.encode()), answer(body=b"of " + FOREIGN.encode()), "bodies differ"),
    ],
)
def test_a_difference_is_told(foreign: Answer, absent: Answer, said: str) -> None:
    assert difference(foreign, absent, FOREIGN, ABSENT) == said


def test_what_the_asker_said_himself_tells_nothing() -> None:
    said = difference(
        answer(body=b"no " + FOREIGN.encode()), answer(body=b"no " + ABSENT.encode()), FOREIGN, ABSENT
    )
    assert said is None
