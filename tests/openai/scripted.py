"""What backends with all the features of the API send: tools, several choices, likelihoods, thoughts."""

from __future__ import annotations

import json
from typing import Any

from tests.marketplace.provider import Behaviour, Provider
from yggdrasil.wire.events import JobReady


def choice(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, **more}


def says(*chunks: list[dict[str, Any]], completion: int = 20) -> Behaviour:
    """A device that sends these chunks, each a list of choices."""

    def behave(device: Provider, job: JobReady) -> None:
        for choices in chunks:
            document = {"id": "SECRET", "object": "chat.completion.chunk", "created": 1, "model": "SECRET"}
            device.client.send(job.link, json.dumps({**document, "choices": choices}).encode())
        device.client.done(job.link, prompt_tokens=20, completion_tokens=completion)

    return behave


def likely(token: str) -> dict[str, Any]:
    top = [{"token": token, "logprob": -0.25, "bytes": None}]
    return {"content": [{"token": token, "logprob": -0.25, "bytes": None, "top_logprobs": top}]}


two_calls = says(
    [choice({"role": "assistant", "content": None})],
    [
        choice(
            {"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": {"name": "look"}}]}
        )
    ],
    [choice({"tool_calls": [{"index": 0, "function": {"arguments": '{"at": '}}]})],
    [choice({"tool_calls": [{"index": 0, "function": {"arguments": '"stars"}'}}]})],
    [
        choice(
            {
                "tool_calls": [
                    {
                        "index": 1,
                        "id": "call_b",
                        "type": "function",
                        "function": {"name": "wait", "arguments": "{}"},
                    }
                ]
            }
        )
    ],
    [choice({}, "tool_calls")],
)
three_choices = says(
    [choice({"role": "assistant", "content": ""}, index=0), choice({"role": "assistant"}, index=1)],
    [choice({"content": "zero"}, index=0)],
    [choice({"content": "one"}, index=1), choice({"content": " more"}, index=0)],
    [choice({}, "stop", index=0)],
    [choice({"content": "two"}, index=2)],
    [choice({"content": " words"}, index=2), choice({}, "length", index=1)],
    [choice({}, "stop", index=2)],
)
one_choice = says([choice({"content": "alone"})], [choice({}, "stop")])
with_logprobs = says(
    [choice({"content": "Hel"}, logprobs=likely("Hel"))],
    [choice({"content": "lo"}, logprobs=likely("lo"))],
    [choice({}, "stop")],
)
thoughtful = says(
    [choice({"role": "assistant", "reasoning_content": "Let me"})],
    [choice({"reasoning_content": " think."})],
    [choice({"content": "Done"})],
    [choice({"content": "."})],
    [choice({}, "stop")],
)
refusing = says([choice({"refusal": "I will"})], [choice({"refusal": " not."})], [choice({}, "stop")])
cut_off = says([choice({"content": "As long as"})], [choice({}, "length")])
