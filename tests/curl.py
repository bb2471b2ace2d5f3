"""A `curl` line of a page as the request that it sends."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

_WITH_A_VALUE = {
    "-A", "-C", "-H", "-T", "-X", "-b", "-c", "-d", "-m", "-o", "-w", "--cacert", "--data", "--data-binary",
    "--data-raw",
}  # fmt: skip
_HOSTS = re.compile(r"(https?://)?(localhost|127\.0\.0\.1|vault\.example\.com)(:\d+)?(?=/)")


class Request(NamedTuple):
    """query: the names of its parameters."""

    method: str
    path: str
    query: list[str]
    body: str | None
    headers: dict[str, str]


def request_of(line: str) -> Request:
    """Return the request of a line. Raises ValueError if it goes elsewhere, or has none."""
    words = iter(shlex.split(line.replace("\\\n", " "))[1:])
    method, url, body, headers = None, None, None, {}
    for word in words:
        if word in _WITH_A_VALUE:
            value = next(words)
            if word == "-X":
                method = value
            elif word in ("-d", "--data", "--data-raw", "--data-binary"):
                body = value
            elif word == "-T":
                method = method or "PUT"
            elif word == "-H" and ":" in value:
                name, _, content = value.partition(":")
                headers[name] = content.strip()
        elif not word.startswith("-"):
            url = url or word
    match = _HOSTS.match(url or "")
    if url is None or match is None:
        raise ValueError(f"no request to EventVault: {line}")
    parts = urlsplit(url[match.end() :])
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return Request(method or ("GET" if body is None else "POST"), parts.path, names, body, headers)
