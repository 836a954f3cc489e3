"""What comes back from a provider, checked, counted, and rewritten so that nothing of the provider shows.
No I/O.

A provider's chunk is read into the few fields of the OpenAI API that a requester may see; ids,
fingerprints, the
provider's own model name and any field not listed here are left behind. What cannot be read is the
provider's fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Protocol
from uuid import UUID

import msgspec
from msgspec import Meta

ANSWER_BYTES_MAX: Final = 7 * 1024 * 1024
CHOICES_MAX: Final = 16

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class BadAnswerError(Exception):
    """The provider sent something that is no answer; the text goes to nobody but the provider's record."""


class TokenCounter(Protocol):
    """Counts the tokens of a text that arrives in parts."""

    def push(self, delta: str) -> int: ...


class _Function(msgspec.Struct, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, omit_defaults=True):
    index: Annotated[int, Meta(ge=0, le=127)]
    id: Annotated[str, Meta(max_length=128)] | None = None
    type: Literal["function"] | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, omit_defaults=True):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[_ToolCall], Meta(max_length=128)] | None = None


class _Likely(msgspec.Struct):
    token: str
    logprob: float
    bytes: Annotated[list[int], Meta(max_length=1_024)] | None = None


class _Logprob(_Likely):
    top_logprobs: Annotated[list[_Likely], Meta(max_length=20)] = msgspec.field(default_factory=list)


class _Logprobs(msgspec.Struct):
    content: list[_Logprob] | None = None
    refusal: list[_Logprob] | None = None


class _Choice(msgspec.Struct):
    index: Annotated[int, Meta(ge=0, lt=CHOICES_MAX)] = 0
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: FinishReason | None = None
    logprobs: _Logprobs | None = None


class _Chunk(msgspec.Struct):
    choices: Annotated[list[_Choice], Meta(max_length=CHOICES_MAX)] = msgspec.field(default_factory=list)


class _ChunkOut(msgspec.Struct, omit_defaults=False):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]


_Chunks = _Chunk | Annotated[list[_Chunk], Meta(min_length=1)]
_decode_chunks: msgspec.json.Decoder[_Chunk | list[_Chunk]] = msgspec.json.Decoder(_Chunks)
_encode = msgspec.json.Encoder()


def answer_id(transaction_id: UUID) -> str:
    """The `id` of an answer: made of the requester's own transaction, never of the provider's."""
    return f"chatcmpl-{transaction_id.hex}"


class _One:
    """One of the choices of an answer."""

    def __init__(self, index: int, counter: TokenCounter) -> None:
        self.index = index
        self._counter = counter
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: dict[str, list[_Logprob]] = {"content": [], "refusal": []}
        self.tokens = 0
        self.began = False
        self.finish_reason: FinishReason | None = None

    def count(self, text: str) -> int:
        """Its tokens with `text`."""
        return self._counter.push(text) if text else self.tokens

    def keep(self, choice: _Choice, tokens: int) -> None:
        delta = choice.delta
        self.tokens = tokens
        self.began = True
        if delta.content:
            self._content.append(delta.content)
        if delta.reasoning_content:
            self._reasoning.append(delta.reasoning_content)
        if delta.refusal:
            self._refusal.append(delta.refusal)
        for part in delta.tool_calls or ():
            call = self._calls.setdefault(
                part.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            call["id"] = part.id or call["id"]
            if part.function is not None:
                call["function"]["name"] += part.function.name or ""
                call["function"]["arguments"] += part.function.arguments or ""
        if choice.logprobs is not None:
            self._logprobs["content"] += choice.logprobs.content or ()
            self._logprobs["refusal"] += choice.logprobs.refusal or ()
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason

    def so_far(self) -> _Choice:
        """All of it as one choice of a chunk."""
        calls = [
            _ToolCall(index, call["id"] or None, "function", _Function(**call["function"]))
            for index, call in sorted(self._calls.items())
        ]
        delta = _Delta(
            role="assistant",
            content="".join(self._content) or None,
            refusal="".join(self._refusal) or None,
            reasoning_content="".join(self._reasoning) or None,
            tool_calls=calls or None,
        )
        logprobs = _Logprobs(**self._logprobs) if any(self._logprobs.values()) else None
        return _Choice(self.index, delta, self.finish_reason, logprobs)

    def whole(self) -> dict[str, Any]:
        """The choice as a `chat.completion` has it."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._content) or None}
        message["refusal"] = "".join(self._refusal) or None
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = [call for _, call in sorted(self._calls.items())]
        if message["content"] is None and not self._calls and message["refusal"] is None:
            message["content"] = ""
        logprobs = None
        if any(self._logprobs.values()):
            logprobs = {name: msgspec.to_builtins(kept) or None for name, kept in self._logprobs.items()}
        return {
            "index": self.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason or "stop",
        }


class ChatAnswer:
    """A chat answer as it grows. `tokens_max`: what the hold affords for the completion, all choices
    together. `more`: a counter for each choice beyond the first (the request's `n`). `whole`: nobody reads it
    in parts, and there is nothing to pass on.

    Of several choices nothing is passed on before each has begun: a server that does not know `n` gives one,
    and another provider may still take over unseen.
    """

    def __init__(
        self,
        transaction_id: UUID,
        model: str,
        created: int,
        counter: TokenCounter,
        tokens_max: int,
        more: Sequence[TokenCounter] = (),
        *,
        whole: bool = False,
    ) -> None:
        self._id = answer_id(transaction_id)
        self._model = model
        self._created = created
        self._tokens_max = tokens_max
        self._bytes = 0
        self._ignored_bytes = 0
        self._choices = [_One(index, each) for index, each in enumerate((counter, *more))]
        self._held_back = len(self._choices) > 1
        self._whole = whole
        self._joins = whole and not more
        self._frame_bytes = len(self._chunk([_Choice()]))
        self.observed_tokens = 0
        self.begun = False
        """Something was passed on, or would have been."""
        self.cut = False

    @property
    def empty(self) -> bool:
        """Nothing was delivered that a requester could use."""
        return self._held_back or self.observed_tokens == 0

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended (the first choice's reason); None while one of its choices goes on."""
        if any(one.finish_reason is None for one in self._choices):
            return None
        return self._choices[0].finish_reason

    def take(self, raw: bytes) -> list[bytes]:
        """A frame with one chunk or an array of them: the chunks to pass on. Raises BadAnswerError. Sets
        `cut` at the cap."""
        try:
            chunks = _decode_chunks.decode(raw)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            raise BadAnswerError("not a chat.completion.chunk") from None
        told = False
        passed: list[bytes] = []
        pieces: list[str] = []
        tokens = self.observed_tokens
        for chunk in chunks if isinstance(chunks, list) else (chunks,):
            if self._joins and (piece := self._piece(chunk)) is not None:
                told = True
                counted = self._choices[0].count(piece)
                if counted > self._tokens_max:
                    self.cut = True
                    break
                pieces.append(piece)
                tokens = counted
            elif fresh := self._fresh(chunk.choices):
                told = True
                self._join(pieces, tokens)
                if not self.cut and (out := self._keep(fresh)) is not None:
                    passed.append(out)
                if self.cut:
                    break
        self._join(pieces, tokens)
        if self.cut and self.finish_reason is None:
            passed.append(self.end("length"))
        if not told:
            self._ignore(raw)
        self.begun = self.begun or bool(passed)
        return [] if self._whole else passed

    def _piece(self, chunk: _Chunk) -> str | None:
        """The text of a chunk that holds nothing but more of an answer with one choice, which has begun."""
        if len(chunk.choices) != 1:
            return None
        choice, one = chunk.choices[0], self._choices[0]
        delta = choice.delta
        plain = (
            one.began
            and one.finish_reason is None
            and choice.index == 0
            and choice.finish_reason is None
            and choice.logprobs is None
            and not (delta.reasoning_content or delta.refusal or delta.tool_calls)
        )
        return delta.content or None if plain else None

    def _join(self, pieces: list[str], tokens: int) -> None:
        """Keep as one what came in pieces; with them the answer has `tokens`."""
        if not pieces:
            return
        text = "".join(pieces)
        pieces.clear()
        self._bytes += len(_encode.encode(text)) - 2
        if self._bytes > ANSWER_BYTES_MAX:
            self.cut = True
            return
        self.observed_tokens = tokens
        self._choices[0].keep(_Choice(delta=_Delta(content=text)), tokens)

    def _keep(self, fresh: list[tuple[_One, _Choice, str]]) -> bytes | None:
        """What is said in a chunk, counted and kept; the chunk to pass on, if any yet."""
        passed = self._chunk([choice for _, choice, _ in fresh])
        # What is kept is bounded as it is stored; a provider's frame around each token does not count.
        self._bytes += len(passed) - self._frame_bytes
        tokens = self.observed_tokens
        counts = []
        for one, _, text in fresh:
            counts.append(one.count(text))
            tokens += counts[-1] - one.tokens
        if tokens > self._tokens_max or self._bytes > ANSWER_BYTES_MAX:
            # What does not fit into the requester's cap is not delivered, and so not paid for.
            self.cut = True
            return self.end("length")
        self.observed_tokens = tokens
        for (one, choice, _), count in zip(fresh, counts, strict=True):
            one.keep(choice, count)
        if not self._held_back:
            return passed
        if not all(one.began for one in self._choices):
            return None
        self._held_back = False
        return self._chunk([one.so_far() for one in self._choices])

    def _fresh(self, choices: Sequence[_Choice]) -> list[tuple[_One, _Choice, str]]:
        """The choices of a chunk that say something, each with its text."""
        if len(choices) > 1 and len({choice.index for choice in choices}) != len(choices):
            raise BadAnswerError("a choice twice in one chunk")
        fresh = []
        for choice in choices:
            if choice.index >= len(self._choices):
                raise BadAnswerError("a choice that was not asked for")
            one, delta = self._choices[choice.index], choice.delta
            text = _text_of(delta)
            # Who speaks, and nothing said: another provider may still take over unseen.
            silent = not text and not delta.tool_calls and choice.finish_reason is None
            if not silent and one.finish_reason is None:
                delta.role = None if one.began else "assistant"
                fresh.append((one, choice, text))
        return fresh

    def _ignore(self, raw: bytes) -> None:
        self._ignored_bytes += len(raw)
        if self._ignored_bytes <= ANSWER_BYTES_MAX:
            return
        if self.finish_reason is None:
            raise BadAnswerError("too much that is no answer")
        self.cut = True

    def resume(self) -> None:
        """It goes on where another one broke off: who speaks has been said."""
        for one in self._choices:
            one.began = True

    def check(self) -> None:
        """As many choices as were asked for have begun, if any has, or BadAnswerError."""
        began = sum(one.began for one in self._choices)
        if 0 < began < len(self._choices):
            raise BadAnswerError(f"n: {began} of {len(self._choices)} choices came")

    def end(self, reason: FinishReason) -> bytes:
        """The chunk that ends an answer which the provider did not end."""
        self.begun = True
        open_ones = [one for one in self._choices if one.finish_reason is None]
        for one in open_ones:
            one.finish_reason = reason
        if self._held_back:
            self._held_back = False
            return self._chunk([one.so_far() for one in self._choices])
        return self._chunk([_Choice(one.index, finish_reason=reason) for one in open_ones])

    def whole(self) -> dict[str, Any]:
        """The `chat.completion` without its usage."""
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [one.whole() for one in self._choices],
        }

    def _chunk(self, choices: list[_Choice]) -> bytes:
        return _encode.encode(
            _ChunkOut(
                id=self._id,
                object="chat.completion.chunk",
                created=self._created,
                model=self._model,
                choices=choices,
            )
        )


def _text_of(delta: _Delta) -> str:
    text = (delta.reasoning_content or "") + (delta.content or "") + (delta.refusal or "")
    for call in delta.tool_calls or ():
        if call.function is not None:
            text += (call.function.name or "") + (call.function.arguments or "")
    return text
