"""A chat answer as it grows: what passes, what is dropped, where it is cut. Pure."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.marketplace import answers
from yggdrasil.marketplace.answers import BadAnswerError, ChatAnswer


class Words:
    """A word is a token."""

    def __init__(self) -> None:
        self.count = 0

    def push(self, delta: str) -> int:
        self.count += len(delta.split())
        return self.count


def fresh(tokens_max: int = 1_000_000) -> ChatAnswer:
    return ChatAnswer(UUID(int=1), "model", 0, Words(), tokens_max)


def raw(delta: dict[str, Any], finish: str | None = None, **choice: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]}).encode()


def passed(answer: ChatAnswer, delta: dict[str, Any], finish: str | None = None, **more: Any) -> Any:
    out = answer.take(raw(delta, finish, **more))
    assert len(out) <= 1
    return json.loads(out[0])["choices"][0] if out else None


def test_chunks_that_came_together_are_counted_and_passed_on_one_by_one() -> None:
    answer = fresh(tokens_max=3)
    frame = b"[" + b",".join(raw({"content": word}) for word in ("one", " two", " three", " four")) + b"]"
    out = [json.loads(chunk)["choices"][0] for chunk in answer.take(frame)]
    assert [choice["delta"].get("content") for choice in out] == ["one", " two", " three", None]
    assert out[-1]["finish_reason"] == "length"
    assert answer.cut
    assert answer.observed_tokens == 3


words = st.sampled_from(["one", " two", " three four", "", "\x00", "é"])
deltas = st.one_of(
    st.builds(lambda text: {"content": text}, words),
    st.builds(lambda text: {"content": text}, words),
    st.builds(lambda text: {"role": "assistant", "content": text}, words),
    st.builds(lambda text: {"reasoning_content": text}, words),
    st.builds(lambda text: {"content": text, "refusal": "no"}, words),
    st.just({"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": "{}"}}]}),
)
logprobs = st.sampled_from([None, None, None, {"content": [{"token": "a", "logprob": -1.0, "bytes": None}]}])
chunks = st.builds(
    lambda index, delta, finish, likely: {
        "choices": [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": likely}]
    },
    st.sampled_from([0, 0, 0, 0, 0, 0, 1]),
    deltas,
    st.sampled_from([None, None, None, None, None, "stop"]),
    logprobs,
)
frames = st.lists(st.lists(chunks, min_size=1, max_size=6), max_size=6)


@given(frames=frames, tokens_max=st.integers(0, 20), choices=st.integers(1, 2))
def test_an_answer_read_whole_is_the_one_read_in_parts(
    frames: list[list[Any]], tokens_max: int, choices: int
) -> None:
    def told(whole: bool) -> list[Any]:
        more = [Words() for _ in range(choices - 1)]
        answer = ChatAnswer(UUID(int=1), "model", 0, Words(), tokens_max, more, whole=whole)
        seen: list[Any] = []
        for frame in frames:
            try:
                out = answer.take(json.dumps(frame).encode())
            except BadAnswerError as error:
                return [*seen, str(error)]
            assert not (whole and out)
            state = (answer.observed_tokens, answer.finish_reason, answer.empty, answer.begun, answer.cut)
            seen.append((*state, answer.whole()))
            if answer.cut:
                break
        return seen

    assert told(whole=True) == told(whole=False)


def test_an_answer_read_whole_is_bounded_as_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 10_000)
    answer = ChatAnswer(UUID(int=1), "model", 0, Words(), 1_000_000, whole=True)
    while not answer.cut:
        assert answer.take(b"[" + b",".join([raw({"content": "word \x00"})] * 50) + b"]") == []
    whole = answer.whole()
    assert whole["choices"][0]["finish_reason"] == "length"
    assert answer.observed_tokens == 2 * whole["choices"][0]["message"]["content"].count("word")
    assert 5_000 < len(json.dumps(whole)) < 11_000


def test_a_bad_chunk_among_others_spoils_the_frame() -> None:
    for bad in (
        b"[",
        b"[]",
        b"[1]",
        b"[{}, null]",
        b"[" + raw({"content": "a"}) + b', {"choices": [{"index": 5}]}]',
    ):
        with pytest.raises(BadAnswerError):
            fresh().take(bad)


def test_a_role_alone_is_not_passed_on_and_comes_with_the_first_words() -> None:
    answer = fresh()
    assert passed(answer, {"role": "assistant", "content": ""}) is None
    assert passed(answer, {"content": "one"})["delta"] == {"role": "assistant", "content": "one"}
    assert passed(answer, {"role": "assistant", "content": "two"})["delta"] == {"content": "two"}


def test_calls_of_tools_pass_in_parts_and_whole() -> None:
    answer = fresh()
    parts = [
        {"index": 0, "id": "call_1", "type": "function"},
        {"index": 0, "function": {"name": "look", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"at": '}},
        {"index": 0, "function": {"arguments": '"stars"}'}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
    ]
    seen = [passed(answer, {"tool_calls": [part]})["delta"]["tool_calls"] for part in parts]
    assert seen == [[part] for part in parts]
    assert passed(answer, {}, "tool_calls")["finish_reason"] == "tool_calls"
    assert not answer.empty
    choice = answer.whole()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "stars"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
    ]


def test_logprobs_pass_in_the_stream_and_whole_without_what_is_not_theirs() -> None:
    answer = fresh()

    def likely(token: str) -> dict[str, Any]:
        top = [{"token": token, "logprob": -0.5, "bytes": None}]
        return {"token": token, "logprob": -0.5, "bytes": [104], "top_logprobs": top}

    for token in ("one", " two"):
        secret = {**likely(token), "host": "secret"}
        out = passed(answer, {"content": token}, logprobs={"content": [secret], "host": "secret"})
        assert out["logprobs"] == {"content": [likely(token)], "refusal": None}
    assert answer.whole()["choices"][0]["logprobs"] == {
        "content": [likely("one"), likely(" two")],
        "refusal": None,
    }


def test_a_long_answer_is_cut_and_paid_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit the answer is too long, not the provider's fault: else it would be a free one."""
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 10_000)
    answer = fresh()
    words = 0
    while not answer.cut:
        out = passed(answer, {"content": "word \x00"})
        words += 1
    assert out["finish_reason"] == "length"
    assert answer.observed_tokens == 2 * (words - 1)
    whole = answer.whole()
    assert whole["choices"][0]["finish_reason"] == "length"
    # What is stored is as long as its JSON.
    assert 5_000 < len(json.dumps(whole)) < 11_000


def test_what_surrounds_each_token_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 10_000)
    answer = fresh()
    for _ in range(100):
        assert passed(answer, {"content": "word "}, model="x" * 1_000)["delta"]["content"] == "word "
    assert answer.observed_tokens == 100


def test_chunks_with_nothing_in_them_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 1_000)
    idle = fresh()
    while idle._ignored_bytes + len(raw({})) <= 1_000:
        assert passed(idle, {}) is None
    with pytest.raises(BadAnswerError):
        passed(idle, {})
    ended = fresh()
    passed(ended, {"content": "all"}, "stop")
    for _ in range(1_000):
        assert passed(ended, {"content": "more"}) is None
    # It goes on after its end: nobody listens any more, and what came before stands.
    assert ended.cut
    assert ended.whole()["choices"][0]["finish_reason"] == "stop"
    assert ended.observed_tokens == 1


def test_the_cap_on_tokens_cuts_before_what_does_not_fit() -> None:
    answer = fresh(tokens_max=3)
    assert passed(answer, {"content": "one two"})["finish_reason"] is None
    out = passed(answer, {"content": " three four"})
    assert (out["delta"], out["finish_reason"]) == ({}, "length")
    assert (answer.cut, answer.observed_tokens) == (True, 2)


def several(count: int, tokens_max: int = 1_000_000) -> ChatAnswer:
    return ChatAnswer(UUID(int=1), "model", 0, Words(), tokens_max, [Words() for _ in range(count - 1)])


def chunk(*choices: dict[str, Any]) -> bytes:
    return json.dumps({"choices": list(choices)}).encode()


def one(index: int, content: str | None = None, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {"content": content} if content else {}, "finish_reason": finish}


def test_several_choices_are_held_back_until_each_has_begun() -> None:
    answer = several(2)
    assert answer.take(chunk(one(0, "a b"))) == []
    assert answer.take(chunk(one(0, " c", "stop"))) == []
    assert answer.empty
    with pytest.raises(BadAnswerError, match="n: 1 of 2"):
        answer.check()
    out = json.loads(answer.take(chunk(one(1, "d")))[0])
    assert [(c["index"], c["delta"], c["finish_reason"]) for c in out["choices"]] == [
        (0, {"role": "assistant", "content": "a b c"}, "stop"),
        (1, {"role": "assistant", "content": "d"}, None),
    ]
    answer.check()
    assert (answer.empty, answer.observed_tokens, answer.finish_reason) == (False, 4, None)
    # A choice that has ended says no more, and from here each chunk passes as it comes.
    out = json.loads(answer.take(chunk(one(0, "more"), one(1, " e")))[0])
    assert [(c["index"], c["delta"]) for c in out["choices"]] == [(1, {"content": " e"})]
    assert json.loads(answer.end("length"))["choices"][0]["index"] == 1
    assert answer.finish_reason == "stop"
    assert [c["message"]["content"] for c in answer.whole()["choices"]] == ["a b c", "d e"]
    assert [c["finish_reason"] for c in answer.whole()["choices"]] == ["stop", "length"]


def test_calls_that_were_held_back_come_whole() -> None:
    answer = several(2)
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    assert answer.take(chunk({"index": 1, "delta": {"tool_calls": [call]}})) == []
    more = {"index": 0, "function": {"arguments": "}"}}
    assert answer.take(chunk({"index": 1, "delta": {"tool_calls": [more]}})) == []
    out = json.loads(answer.take(chunk(one(0, "x")))[0])
    assert out["choices"][1]["delta"]["tool_calls"] == [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_the_cap_on_tokens_is_for_all_choices() -> None:
    answer = several(2, tokens_max=4)
    answer.take(chunk(one(0, "a"), one(1, "b")))
    answer.take(chunk(one(0, " c d")))
    out = json.loads(answer.take(chunk(one(1, " e")))[0])
    assert [(c["index"], c["delta"], c["finish_reason"]) for c in out["choices"]] == [
        (0, {}, "length"),
        (1, {}, "length"),
    ]
    assert (answer.cut, answer.observed_tokens) == (True, 4)
    for bad in (chunk(one(2, "x")), chunk(one(0, "x"), one(0, "y"))):
        with pytest.raises(BadAnswerError):
            several(2).take(bad)


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff",
        b"[]",
        raw({"content": 5}),
        raw({"content": "a"}, "because"),
        raw({"content": "a"}, index=1),
        raw({"tool_calls": [{"index": 128}]}),
        raw({"content": "a"}, logprobs={"content": "secret"}),
        json.dumps({"choices": [{"delta": {}}, {"delta": {}}]}).encode(),
    ],
)
def test_what_is_no_answer_is_the_providers_fault(bad: bytes) -> None:
    with pytest.raises(BadAnswerError):
        fresh().take(bad)
