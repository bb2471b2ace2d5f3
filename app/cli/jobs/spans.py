"""Spans of time as people write them: `30s`, `5m`, `2h`, `1d`."""

from __future__ import annotations

import re

import click

_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?(s|m|min|h|d|w)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class SpanType(click.ParamType):
    """Converts to seconds."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        span = _SPAN.fullmatch(str(value).strip().lower())
        if span is None:
            self.fail(f"{str(value)!r} is no span of time; write it as 30s, 5m, 2h or 1d", param, ctx)
        return float(span[1]) * _SECONDS[span[2]]
