"""`python -m eventvault.notifications.child KIND PARENT`: the process that talks to other machines.

It reads the request as JSON from standard input, so that no address is in its arguments or its environment, and writes
a JSON line for each result. Only this process imports Apprise, which takes long to load and may wait for ever.

KIND: `send` delivers a message, `check` tells which addresses Apprise knows, `ping` asks an address by plain HTTP.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from eventvault.exit_statuses import DONE
from eventvault.notify_addresses import redact
from eventvault.orphans import end_with_parent

NICENESS = 10
_MOST_REASON = 200
"""How many characters of a reason are shown."""

Result = dict[str, Any]
_lines: ContextVar[list[str]] = ContextVar("lines", default=[])  # noqa: B039 - nobody reads the default


class Results:
    """Writes each result as a line to standard output. What plug-ins print goes to standard error instead."""

    def __init__(self) -> None:
        self._output = os.dup(sys.stdout.fileno())
        sys.stdout = sys.stderr

    def write(self, result: Result) -> None:
        os.write(self._output, json.dumps(result).encode() + b"\n")  # one call, because several threads write


class Reasons(logging.Handler):
    """Collects what Apprise logs for each address. Apprise copies the caller's context to its other threads."""

    def emit(self, record: logging.LogRecord) -> None:
        _lines.get().append(record.getMessage())


def send(request: Result, results: Results) -> None:
    """Send a message. request: addresses (place, address), title, body, type, seconds."""
    import apprise

    logging.getLogger("apprise").addHandler(Reasons(logging.WARNING))
    asset = apprise.AppriseAsset(
        app_id="EventVault",
        app_desc="EventVault",
        async_mode=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        http_redirects=False,  # most redirects turn the POST into a GET without the message
    )

    apprise.Apprise(asset=asset).add("json://localhost")  # loads all plug-ins before the receivers' deadline begins

    def deliver(address: str) -> str | None:
        lines: list[str] = []
        _lines.set(lines)
        receiver = apprise.Apprise(asset=asset)
        is_delivered = receiver.add(address) and receiver.notify(
            body=request["body"],
            title=request["title"],
            notify_type=apprise.NotifyType(request["type"]),
            body_format=apprise.NotifyFormat.TEXT,
        )
        return None if is_delivered else "; ".join(dict.fromkeys(lines)) or "Apprise gives no reason"

    _in_parallel(request["addresses"], deliver, request["seconds"], results)


def check(request: Result, results: Results) -> None:
    """Check which addresses Apprise knows. request: addresses (place, address), seconds."""
    import apprise

    def instantiate(address: str) -> str | None:
        return None if apprise.Apprise().add(address) else "unknown"

    _in_parallel(request["addresses"], instantiate, request["seconds"], results)


def ping(request: Result, results: Results) -> None:
    """Send a GET request. request: addresses (only one: 0, address), seconds."""
    from urllib.request import urlopen

    def ask(address: str) -> str | None:
        # PING_URL is http or https: the settings refuse any other.
        with urlopen(_request_for(address), timeout=request["seconds"]):  # nosec B310
            return None

    _in_parallel(request["addresses"], ask, request["seconds"], results)


def _request_for(address: str) -> Any:
    """Return a request with the user and the password of the address; urllib would take them for part of the host."""
    from urllib.request import Request

    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "EventVault"})
    if user:
        name, _, password = user.partition(":")
        secret = b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {secret}")  # not sent to the target of a redirect
    return request


KINDS: dict[str, Callable[[Result, Results], None]] = {"send": send, "check": check, "ping": ping}


def _in_parallel(
    addresses: list[tuple[int, str]], work: Callable[[str], str | None], seconds: float, results: Results
) -> None:
    """Do the work for each address in a thread of its own. work: returns why it failed; None if it succeeded."""
    began = time.monotonic()

    def run(place: int, address: str) -> None:
        try:
            problem = work(address)
        except Exception as error:  # noqa: BLE001 - it becomes the result; a log line could show a secret
            problem = f"{type(error).__name__}: {error}"
        shown = None if problem is None else " ".join(redact(problem, address).split())[:_MOST_REASON]
        results.write({"place": place, "problem": shown, "seconds": time.monotonic() - began})

    threads = [threading.Thread(target=run, args=place_and_address, daemon=True) for place_and_address in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, began + seconds - time.monotonic()))


def main(kind: str, parent: int) -> None:
    end_with_parent(parent)
    if kind != "check":  # a start of the service waits for it
        os.nice(NICENESS)
    results = Results()
    request = json.load(sys.stdin)
    os.environ.update(request["proxies"])
    KINDS[kind](request, results)
    os._exit(DONE)  # without waiting for threads whose receivers do not answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
