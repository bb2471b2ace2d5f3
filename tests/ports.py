"""Ports for servers under test."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress

_PORTS = range(10_000, 30_000)
"""Below those that the kernel gives to whoever connects."""
_TEST_PROCESSES = 8


def free_port() -> int:
    """A port that nobody listens on. It is given neither to another test process nor soon again to this one:

    until the server listens, nothing tells that the port is in use.
    """
    while True:
        port = next(_own_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def _ports_of_this_process() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = _PORTS[number % _TEST_PROCESSES :: _TEST_PROCESSES]
    begin = secrets.randbelow(len(own))
    return itertools.cycle([*own[begin:], *own[:begin]])


_own_ports = _ports_of_this_process()
