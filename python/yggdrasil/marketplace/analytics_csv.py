"""A report as a table: RFC 4180, and harmless in a spreadsheet. No I/O."""

from __future__ import annotations

import csv
import io
from typing import Final

import msgspec

from yggdrasil.marketplace.analytics import NAMED, AnalyticsReport, Figures

_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def table(report: AnalyticsReport) -> bytes:
    """A header and a line for each row, in UTF-8; an empty cell is a figure that does not exist."""
    out = io.StringIO()
    writer = csv.writer(out)  # the csv module's default dialect is RFC 4180
    names = [*report.group_by]
    for dimension, name in NAMED.items():
        if dimension in names:
            names.insert(names.index(dimension) + 1, name)
    figures = Figures.__struct_fields__
    writer.writerow(["start", "end", *names, *figures])
    for row in report.rows:
        writer.writerow(
            [
                msgspec.to_builtins(row.start),
                msgspec.to_builtins(row.end),
                *(cell(row.group[name]) for name in names),
                *(cell(getattr(row.figures, name)) for name in figures),
            ]
        )
    return out.getvalue().encode()


def cell(value: str | float | None) -> str:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it. No number is negative."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    runs = value.lstrip().startswith(_FORMULA) or value[:1] in ("\t", "\r", "\n")
    return "'" + value if runs else value
