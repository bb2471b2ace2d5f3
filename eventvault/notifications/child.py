"""`python -m eventvault.notifications.child KIND PARENT`: the process that talks to other machines.

It gets the request as JSON on standard input, so that no address is in its arguments or its environment, and writes a
JSON line for each result. It alone imports Apprise, which takes long to load and may wait for ever.

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
"""Characters of a reason that are shown."""

Result = dict[str, Any]
_lines: ContextVar[list[str]] = ContextVar("lines", default=[])  # noqa: B039 - of threads that nobody asks


class Results:
    """Writes each result as a line. It is the only writer of what was standard output: plug-ins print there too."""

    def __init__(self) -> None:
        self._output = os.dup(sys.stdout.fileno())
        sys.stdout = sys.stderr

    def write(self, result: Result) -> None:
        os.write(self._output, json.dumps(result).encode() + b"\n")  # in one piece, whichever thread it is


class Reasons(logging.Handler):
    """What Apprise logs of each address: it works on one in other threads, with the context of who asked."""

    def emit(self, record: logging.LogRecord) -> None:
        _lines.get().append(record.getMessage())


def send(request: Result, results: Results) -> None:
    """request: addresses (place, address), title, body, type, seconds."""
    import apprise

    logging.getLogger("apprise").addHandler(Reasons(logging.WARNING))
    asset = apprise.AppriseAsset(
        app_id="EventVault",
        app_desc="EventVault",
        async_mode=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        http_redirects=False,  # most turn the POST into a GET, without the message
    )

    apprise.Apprise(asset=asset).add("json://localhost")  # loads all plug-ins, before the time of the receivers begins

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
    """request: addresses (place, address), seconds."""
    import apprise

    def instantiate(address: str) -> str | None:
        return None if apprise.Apprise().add(address) else "unknown"

    _in_parallel(request["addresses"], instantiate, request["seconds"], results)


def ping(request: Result, results: Results) -> None:
    """request: addresses (one: 0, address), seconds."""
    from urllib.request import urlopen

    def ask(address: str) -> str | None:
        # PING_URL is http or https: the settings refuse any other.
        with urlopen(_request_for(address), timeout=request["seconds"]):  # nosec B310
            return None

    _in_parallel(request["addresses"], ask, request["seconds"], results)


def _request_for(address: str) -> Any:
    """Return a request with the user and the password of the address, which urllib takes for a part of the host."""
    from urllib.request import Request

    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    asked = Request(urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "EventVault"})
    if user:
        name, _, password = user.partition(":")
        secret = b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
        asked.add_unredirected_header("Authorization", f"Basic {secret}")  # not for where a redirect leads
    return asked


KINDS: dict[str, Callable[[Result, Results], None]] = {"send": send, "check": check, "ping": ping}


def _in_parallel(
    addresses: list[tuple[int, str]], work: Callable[[str], str | None], seconds: float, results: Results
) -> None:
    """Do the work for each address in a thread of its own. It returns why it failed; None if it did not."""
    began = time.monotonic()

    def run(place: int, address: str) -> None:
        try:
            problem = work(address)
        except Exception as error:  # noqa: BLE001 - the receiver of the result says it, and the log may have no secret
            problem = f"{type(error).__name__}: {error}"
        shown = None if problem is None else " ".join(redact(problem, address).split())[:_MOST_REASON]
        results.write({"place": place, "problem": shown, "seconds": time.monotonic() - began})

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, began + seconds - time.monotonic()))


def main(kind: str, parent: int) -> None:
    end_with_parent(parent)
    if kind != "check":  # a start waits for that
        os.nice(NICENESS)
    results = Results()
    request = json.load(sys.stdin)
    os.environ.update(request["proxies"])
    KINDS[kind](request, results)
    os._exit(DONE)  # a thread that still waits for its receiver must not be waited for


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
