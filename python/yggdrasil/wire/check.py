"""A device's own messages against the protocol's rules, before they leave."""

from __future__ import annotations

from typing import Any

import msgspec

from yggdrasil.errors import InvalidInput, ProtocolViolation
from yggdrasil.wire import limits, messages


def checked(message: messages.Message) -> str:
    """The frame of our own message, if it keeps the protocol's rules; `InvalidInput` names the first field
    that does not.
    """
    frame = messages.encode(message)
    if len(frame.encode()) > limits.MESSAGE_BYTES_MAX:
        raise InvalidInput(f"message: at most {limits.MESSAGE_BYTES_MAX} bytes", field="message")
    try:
        messages.decode_to_server(frame)
    except ProtocolViolation as error:
        text = str(error).removeprefix("message: ")
        field = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else "message"
        raise InvalidInput(f"{field}: {text}", field=field) from None
    return frame


def opaque(field: str, value: dict[str, Any]) -> None:
    """Room for JSON that the relay carries."""
    if len(msgspec.json.encode(value)) > limits.OPAQUE_BYTES_MAX:
        raise InvalidInput(f"{field}: at most {limits.OPAQUE_BYTES_MAX} bytes of JSON", field=field)
