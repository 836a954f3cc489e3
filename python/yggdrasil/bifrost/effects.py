"""What the core hands its shell, typed; the shapes are those of `_core.pyi`."""

from __future__ import annotations

from typing import Literal

Effect = (
    tuple[Literal["wake"], int]
    | tuple[Literal["authenticate"], int, str, str, str, bytes]
    | tuple[Literal["directory"], int, int]
    | tuple[Literal["exists"], int, int, str]
    | tuple[Literal["presence"], int, bool]
    | tuple[Literal["close"], int, int, str]
    | tuple[Literal["job"], int]
)
"""The kind, the session (of `job`: the job), then what the kind needs; see `bifrost::Effect`."""
JobEnd = tuple[Literal["busy"], str] | tuple[Literal["done"], int, int] | tuple[Literal["fault"], str, str]
JobBatch = tuple[bool, list[bytes], JobEnd | None]
"""(accepted, payloads, end)"""
