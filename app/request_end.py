"""Releases what a request holds, such as a slot, however the request ends.

A server closes an answer only after it has begun it. It drops an answer whose headers it refuses, and the view learns
nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from flask import has_request_context, request

_KEY = "eventvault.request_end"

Release = Callable[[], None]


def at_request_end(release: Release) -> Release:
    """Call `release`, which may be called repeatedly, when the current request ends. Returns `release`."""
    if has_request_context():
        request.environ.get(_KEY, []).append(release)
    return release


class RequestEnd:
    """WSGI middleware that calls what `at_request_end` noted, also if the answer cannot begin."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        releases: list[Release] = []
        environ[_KEY] = releases
        try:
            body = self._inner(environ, start_response)
        except BaseException:
            _close(releases)
            raise
        return _Body(body, releases) if releases else body


class _Body:
    def __init__(self, body: Iterable[bytes], releases: list[Release]) -> None:
        self._body = body
        self._releases = releases

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        _close([*self._releases, getattr(self._body, "close", _nothing)])


def _close(releases: list[Release]) -> None:
    """Call all of them, the last one first. After an error in one, the others are still called."""
    with ExitStack() as stack:
        for release in releases:
            stack.callback(release)


def _nothing() -> None:
    """Stand for the `close` of a body that has none."""
