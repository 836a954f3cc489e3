"""One link as a device sees it: its state, its queue, its credit both ways."""

from __future__ import annotations

from collections import deque

from yggdrasil.errors import Conflict, LimitReached, ProtocolViolation
from yggdrasil.wire import messages
from yggdrasil.wire.limits import WINDOW_BYTES, CloseCode, frame_cost
from yggdrasil.wire.transitions import LINK_TRANSITIONS, LinkInput, LinkState


class Link:
    """State, outgoing queue and credit of one link. Made by `Client`; nothing else needs it."""

    def __init__(self, number: int, state: LinkState, offer: messages.JobOffer | None = None) -> None:
        self.number = number
        self.state = state
        self.offer = offer
        self.body = bytearray()
        self.body_complete = False
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.was_full = False
        self.final: messages.Message | None = None
        self.may_send_bytes = WINDOW_BYTES
        self.may_receive_bytes = WINDOW_BYTES
        self.owed_bytes = 0

    def move(self, move: LinkInput) -> None:
        """Take one step of the table; `Conflict` (our own bug) if there is none."""
        state = LINK_TRANSITIONS.get((self.state, move))
        if state is None:
            raise Conflict(f"link {self.number}: no {move.value!r} while {self.state.value!r}")
        self.state = state

    def push(self, payload: bytes, queue_bytes_max: int) -> None:
        """Queue a payload; `LimitReached` when the queue is full (an event `Writable` follows)."""
        cost = frame_cost(len(payload))
        if self.queued_bytes + cost > queue_bytes_max:
            self.was_full = True
            raise LimitReached(
                f"link {self.number}: at most {queue_bytes_max} bytes queued; wait for Writable"
            )
        self.queue.append(payload)
        self.queued_bytes += cost

    def ready(self) -> bool:
        """Whether `pull` would give a frame."""
        if self.queue:
            return frame_cost(len(self.queue[0])) <= self.may_send_bytes
        return self.final is not None

    def pull(self) -> str | bytes:
        """The next frame of this link: data within credit, then the message that ends it."""
        if self.queue:
            payload = self.queue.popleft()
            cost = frame_cost(len(payload))
            self.queued_bytes -= cost
            self.may_send_bytes -= cost
            return messages.pack(self.number, payload)
        assert self.final is not None  # noqa: S101  # ready() said so
        final, self.final = self.final, None
        return messages.encode(final)

    def granted(self, credit_bytes: int) -> None:
        """The other side lets us send more."""
        self.may_send_bytes += credit_bytes
        if self.may_send_bytes > WINDOW_BYTES:
            raise ProtocolViolation(
                f"credit: link {self.number} would be over its window of {WINDOW_BYTES} bytes",
                close_code=CloseCode.CREDIT,
            )

    def received(self, payload_bytes: int) -> None:
        """A payload came in; `ProtocolViolation` if it was not covered by our credit."""
        cost = frame_cost(payload_bytes)
        if cost > self.may_receive_bytes:
            raise ProtocolViolation(
                f"data: link {self.number} exceeds its credit", close_code=CloseCode.CREDIT
            )
        self.may_receive_bytes -= cost

    def consumed(self, payload_bytes: int) -> messages.Credit | None:
        """A payload is dealt with; the grant to send, once it is worth a message."""
        self.owed_bytes += frame_cost(payload_bytes)
        if self.may_receive_bytes + self.owed_bytes > WINDOW_BYTES:
            raise Conflict(f"link {self.number}: more bytes consumed than received")
        if self.owed_bytes < WINDOW_BYTES // 4:
            return None
        grant, self.owed_bytes = self.owed_bytes, 0
        self.may_receive_bytes += grant
        return messages.Credit(link=self.number, bytes=grant)
