"""The answer of `POST /v1/responses`: its events as they come, and the response whole. No I/O.

Both are one machine, so that a stream and its last event, and an answer without a stream, say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import msgspec

from yggdrasil.errors import YggdrasilError
from yggdrasil.marketplace import sse
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.run import Finished
from yggdrasil.openai.responses import CreateResponse

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_PARTS: Final = {
    # Kind of text → (type of its part, field of its text, its events' name).
    "content": ("output_text", "text", "response.output_text"),
    "refusal": ("refusal", "refusal", "response.refusal"),
    "reasoning_content": ("reasoning_text", "text", "response.reasoning_text"),
}


class ResponseStream:
    """One response as it grows. Its methods return the server-sent events to pass on."""

    def __init__(
        self, data: CreateResponse, transaction_id: UUID, created_at: int, count: Callable[[str], int]
    ) -> None:
        self._data = data
        self._transaction_id = transaction_id
        self._created_at = created_at
        self._count = count
        self._number = 0
        self._items: list[dict[str, Any]] = []
        self._speaking: int | None = None
        """The item of text that is open."""
        self._part: str | None = None
        """The kind of its open part."""
        self._calls: dict[int, int] = {}
        self._finish: str | None = None
        self._model: str = data.model

    # ---- events
    # -----------------------------------------------------------------------------------------

    def opening(self) -> list[bytes]:
        """What comes before the first word."""
        return [
            self._event(name, response=self.response("in_progress"))
            for name in ("response.created", "response.in_progress")
        ]

    def take(self, chunk: bytes) -> list[bytes]:
        """A `chat.completion.chunk` of this server."""
        events: list[bytes] = []
        read = msgspec.json.decode(chunk)
        self._model = read["model"]
        for choice in read["choices"]:
            events += self._taken(choice["delta"], choice.get("logprobs"))
            self._finish = choice["finish_reason"] or self._finish
        return events

    def whole(self, last: Finished) -> dict[str, Any]:
        """The response of an answer that nobody streamed."""
        self._model = last.answer["model"]
        choice = last.answer["choices"][0]
        calls = [{"index": i, **call} for i, call in enumerate(choice["message"].get("tool_calls", ()))]
        self._taken({**choice["message"], "tool_calls": calls}, choice["logprobs"])
        self._finish = choice["finish_reason"]
        self._close()
        return self.response(self._status(last), last)

    def finished(self, last: Finished) -> list[bytes]:
        """What comes after the last word."""
        # A stream that was cut says why in the answer, and not always in a chunk.
        self._finish = last.answer["choices"][0]["finish_reason"]
        events = self._close()
        status = self._status(last)
        name = "response.incomplete" if status == "incomplete" else "response.completed"
        return [*events, self._event(name, response=self.response(status, last))]

    def failed(self, error: YggdrasilError) -> list[bytes]:
        """The last event of a run that failed."""
        response = self.response("failed")
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        detail = error.title if error.code == "internal" else error.detail
        response["error"] = {"code": code, "message": detail}
        response["yggdrasil"]["code"] = error.code
        return [self._event("response.failed", response=response)]

    def _event(self, name: str, /, **fields: Any) -> bytes:
        data = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return sse.event(msgspec.json.encode(data), name)

    # ---- items
    # ------------------------------------------------------------------------------------------

    def _taken(self, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> list[bytes]:
        events: list[bytes] = []
        for kind in ("reasoning_content", "content", "refusal"):
            if text := delta.get(kind):
                likely = (logprobs or {}).get("content") if kind == "content" else None
                events += self._text(kind, text, likely or [])
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        return events

    def _text(self, kind: str, text: str, logprobs: list[Any]) -> list[bytes]:
        part_type, field, name = _PARTS[kind]
        events: list[bytes] = []
        item_type = "reasoning" if kind == "reasoning_content" else "message"
        if self._speaking is None or self._items[self._speaking]["type"] != item_type:
            events += self._end_text()
            events += self._speak(item_type)
        index = self._speaking or 0
        item = self._items[index]
        if self._part != kind:
            events += self._end_part()
            part: dict[str, Any] = {"type": part_type, field: ""}
            if kind == "content":
                part |= {"annotations": [], "logprobs": []}
            item["content"].append(part)
            self._part = kind
            events.append(self._event("response.content_part.added", **self._place(index), part=part))
        part = item["content"][-1]
        part[field] += text
        more: dict[str, Any] = {}
        if kind == "content":
            part["logprobs"] += logprobs
            more["logprobs"] = logprobs
        events.append(self._event(f"{name}.delta", **self._place(index), delta=text, **more))
        return events

    def _speak(self, item_type: str) -> list[bytes]:
        if item_type == "reasoning":
            head: dict[str, Any] = {"id": self._id("rs"), "type": item_type, "summary": []}
        else:
            head = {"id": self._id("msg"), "type": item_type, "role": "assistant"}
        self._speaking = len(self._items)
        return self._add({**head, "status": "in_progress", "content": []})

    def _call(self, call: dict[str, Any]) -> list[bytes]:
        events = self._end_text()
        function = call.get("function") or {}
        index = self._calls.get(call["index"])
        if index is None:
            index = self._calls[call["index"]] = len(self._items)
            item = {"id": self._id("fc"), "type": "function_call", "status": "in_progress"}
            named = {"call_id": call.get("id") or "", "name": function.get("name") or "", "arguments": ""}
            events += self._add(item | named)
        else:
            # Some servers name a call in its second part: then the last event has it whole.
            item = self._items[index]
            item["call_id"] = call.get("id") or item["call_id"]
            item["name"] += function.get("name") or ""
        item = self._items[index]
        if arguments := function.get("arguments"):
            item["arguments"] += arguments
            name = "response.function_call_arguments.delta"
            events.append(self._event(name, item_id=item["id"], output_index=index, delta=arguments))
        return events

    def _add(self, item: dict[str, Any]) -> list[bytes]:
        self._items.append(item)
        index = len(self._items) - 1
        return [self._event("response.output_item.added", output_index=index, item=item)]

    def _end_part(self) -> list[bytes]:
        if self._part is None or self._speaking is None:
            return []
        _, field, name = _PARTS[self._part]
        part = self._items[self._speaking]["content"][-1]
        place = self._place(self._speaking)
        more = {"logprobs": part["logprobs"]} if self._part == "content" else {}
        self._part = None
        return [
            self._event(f"{name}.done", **place, **{field: part[field]}, **more),
            self._event("response.content_part.done", **place, part=part),
        ]

    def _end_text(self) -> list[bytes]:
        if self._speaking is None:
            return []
        events = self._end_part()
        index, self._speaking = self._speaking, None
        return [*events, self._done(index)]

    def _done(self, index: int) -> bytes:
        item = self._items[index]
        item["status"] = "incomplete" if self._finish in _INCOMPLETE else "completed"
        return self._event("response.output_item.done", output_index=index, item=item)

    def _close(self) -> list[bytes]:
        events = self._end_text()
        for index in self._calls.values():
            item = self._items[index]
            name = "response.function_call_arguments.done"
            done = {"item_id": item["id"], "name": item["name"], "arguments": item["arguments"]}
            events += [self._event(name, output_index=index, **done), self._done(index)]
        return events

    def _place(self, index: int) -> dict[str, Any]:
        content_index = len(self._items[index]["content"]) - 1
        return {
            "item_id": self._items[index]["id"],
            "output_index": index,
            "content_index": content_index,
        }

    def _id(self, prefix: str) -> str:
        # Made of the requester's own transaction, never of the provider's.
        return f"{prefix}_{self._transaction_id.hex}{len(self._items):02}"

    # ---- the response
    # -----------------------------------------------------------------------------------

    def _status(self, last: Finished) -> str:
        if last.state is State.CANCELLED:
            return "cancelled"
        return "incomplete" if self._finish in _INCOMPLETE else "completed"

    def response(self, status: str, last: Finished | None = None) -> dict[str, Any]:
        """The response object as it stands; with `last`, what was used and what it cost."""
        data = self._data
        asked = msgspec.to_builtins(data)
        reason = _INCOMPLETE.get(self._finish or "")
        text = asked.get("text") or {}
        return {
            "id": f"resp_{self._transaction_id.hex}",
            "object": "response",
            "created_at": self._created_at,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": data.instructions,
            "max_output_tokens": data.max_output_tokens,
            "metadata": data.metadata or {},
            "model": self._model,
            "output": self._items,
            "parallel_tool_calls": data.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None, **(asked.get("reasoning") or {})},
            "store": False,
            "temperature": data.temperature,
            "text": {**text, "format": text.get("format") or {"type": "text"}},
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": asked.get("tools") or [],
            "top_logprobs": data.top_logprobs,
            "top_p": data.top_p,
            "truncation": "disabled",
            "usage": self._usage(last) if last is not None else None,
            "user": data.user,
            "yggdrasil": self._extra(last),
        }

    def _usage(self, last: Finished) -> dict[str, Any]:
        thoughts = [
            part["text"] for item in self._items if item["type"] == "reasoning" for part in item["content"]
        ]
        thought = min(sum(self._count(text) for text in thoughts), last.completion_tokens)
        return {
            "input_tokens": last.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": last.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": last.prompt_tokens + last.completion_tokens,
        }

    def _extra(self, last: Finished | None) -> dict[str, Any]:
        extra: dict[str, Any] = {"transaction_id": str(self._transaction_id)}
        if last is not None:
            extra |= {"state": last.state.value, "cost_microcents": last.cost_microcents, **last.told()}
        return extra
