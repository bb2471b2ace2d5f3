"""A client's socket as gunicorn's threads use it: every wait for the client has a deadline.

- Receiving: a body must arrive with MIN_BODY_RATE on average, after a grace. Only the time in which a thread waits for
  the client counts.
- Sending: a client that takes no byte of an answer for TAKE_SECONDS is disconnected. At most half of the threads wait
  for such clients; beyond them a client has IMPATIENT_SECONDS.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import math
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("eventvault.http")

BODY_GRACE_SECONDS = 15.0
MIN_BODY_RATE = 1024
"""Bytes per second."""
MAX_SILENCE_SECONDS = 30.0
"""How long a client may pause, however much of the body it has sent before."""
_SENT_WITH_HEAD = 64 * 1024
"""A longer part of a body is sent after the head of its answer: to send both at once, they would be copied."""
TAKE_SECONDS = 30.0
IMPATIENT_SECONDS = 1.0
_CHECK_SECONDS = 0.25
"""Seconds between two checks whether the client took something, and whether the worker is stopping."""


class Waits:
    """Shared by the threads of a worker that wait for clients.

    ends_at: from then on (monotonic) a client has IMPATIENT_SECONDS, because the worker is stopping.
    """

    def __init__(self, places: int) -> None:
        self.ends_at = math.inf
        self._places = threading.Semaphore(places)

    def is_stopping(self) -> bool:
        return time.monotonic() >= self.ends_at

    @contextmanager
    def for_taking(self, *, patient: bool) -> Iterator[float]:
        """Yield how many seconds a client has to take a byte."""
        has_place = patient and self._places.acquire(blocking=False)
        try:
            yield TAKE_SECONDS if has_place else IMPATIENT_SECONDS
        finally:
            if has_place:
                self._places.release()


class ClientSocket:
    """Wraps a connected socket and makes it non-blocking. It has those methods of a socket that gunicorn calls.

    request: gunicorn's current request, None before it is parsed. is_broken: the client was given up.
    stream: the rest of the answer, which the worker's writer of streams sends; gunicorn's thread then sends nothing.
    may_go_on: returns whether the client may still have what is being sent, or send what is being read.
    """

    def __init__(self, connection: socket.socket, waits: Waits) -> None:
        connection.setblocking(False)
        self.request: Any = None
        self.is_broken = False
        self.stream: Any = None
        self.may_go_on: Callable[[], bool] = _always
        self._next_check = 0.0
        self._answering = False
        self._socket = connection
        self._waits = waits
        self._timeout: float | None = None
        self._unread = memoryview(b"")
        self._holds = False
        self._head = b""
        """The head of an answer, which waits for the first bytes of the body."""
        self._allowance = 0.0
        """Seconds that a thread may still wait for the body."""
        self._patient = True

    def begin_request(self, received: bytes, allowance: float, *, patient: bool) -> None:
        """Let `recv` return what was received already.

        allowance: seconds that a thread may wait for the rest. patient: False if the client has IMPATIENT_SECONDS only.
        """
        self._unread = memoryview(received)
        self._allowance = allowance
        self._patient = patient
        self.request = None
        self.may_go_on = _always

    def go_on_while(self, may_go_on: Callable[[], bool]) -> None:
        """Break off the current request, in its body or its answer, soon after `may_go_on` returns False.

        The beginning of an answer is always sent: it says what became of the request.
        """
        self.may_go_on = may_go_on
        self._next_check = time.monotonic() + _CHECK_SECONDS
        self._answering = False

    def take_unread(self) -> bytes:
        """Return what was received already and not read by `recv`."""
        unread, self._unread = bytes(self._unread), memoryview(b"")
        return unread

    def receive_now(self, size: int) -> bytes | None:
        """Return what has arrived, empty at its end; None if nothing has. Raises OSError."""
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            return None

    def send_now(self, data: bytes) -> None:
        """Send as much as the system takes at once."""
        try:
            self._socket.send(data)
        except OSError:
            log.debug("an answer could not be sent at once")

    def send_some(self, data: memoryview) -> int:
        """Send as much as the system takes at once; return how many bytes that were. Raises OSError."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def close_after_answer(self) -> None:
        """Let no other request follow on this connection."""
        if self.request is not None:
            self.request.force_close()

    def recv(self, size: int) -> bytes:
        """Return the next bytes. Raises TimeoutError if the client is too slow."""
        if self._unread:
            piece, self._unread = bytes(self._unread[:size]), self._unread[size:]
            return piece
        while (data := self.receive_now(size)) is None:
            self._wait_to_receive()
        if not self._may_still_go_on():
            self.close_after_answer()
            raise PermissionError(errno.EACCES, "the client may not go on")
        self._allowance = min(self._allowance + len(data) / MIN_BODY_RATE, MAX_SILENCE_SECONDS)
        return data

    def hold_head(self) -> None:
        """Let the first `sendall` of the current request wait for the second one.

        gunicorn sends the head of an answer and its body by two calls: each would be a packet, and wake the client.
        """
        self._holds = True

    def send_head(self) -> None:
        """Send the head if it is still held, as for an answer without a body. Raises as `sendall` does."""
        self._holds = False
        head, self._head = self._head, b""
        if head:
            self._send_all(head)

    def sendall(self, data: bytes) -> None:
        """Send all, unless a stream follows. Raises BrokenPipeError if the client takes nothing."""
        if self.stream is not None:
            return
        if self._holds:
            self._holds, self._head = False, data
        elif self._head and len(data) <= _SENT_WITH_HEAD:
            head, self._head = self._head, b""
            self._send_all(head + data)
        else:
            self.send_head()
            self._send_all(data)

    def _send_all(self, data: bytes) -> None:
        if not self._answering:
            self._answering, self._next_check = True, time.monotonic() + _CHECK_SECONDS
        rest = memoryview(data)
        while rest:
            self._stop_if_revoked()
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                self._wait_to_send()

    def send(self, data: bytes) -> int:
        """Send all at once: gunicorn asks a client in this way to go on with its body."""
        self._send_all(data)
        return len(data)

    def setblocking(self, flag: bool) -> None:
        """Do nothing: `recv` and `sendall` do their own waiting."""

    def gettimeout(self) -> float | None:
        return self._timeout

    def settimeout(self, seconds: float | None) -> None:
        """Wait at most this long in `recv`, besides its own deadline."""
        self._timeout = seconds

    def fileno(self) -> int:
        return self._socket.fileno()

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        if self.is_broken and self.fileno() >= 0:  # let the kernel drop what the client does not take
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _wait_to_receive(self) -> None:
        began = time.monotonic()
        while not self._poll(select.POLLIN, began + self._patience() - time.monotonic()):
            if time.monotonic() - began >= self._patience():
                self.close_after_answer()
                raise TimeoutError("the body did not arrive in time")
        self._allowance -= time.monotonic() - began

    def _patience(self) -> float:
        """Return how long `recv` may wait now."""
        if self._waits.is_stopping():
            self._allowance = min(self._allowance, IMPATIENT_SECONDS)
        return self._allowance if self._timeout is None else min(self._allowance, self._timeout)

    def _wait_to_send(self) -> None:
        """Wait until the socket takes more. The client's time begins again whenever it takes something."""
        with self._waits.for_taking(patient=self._patient) as seconds:
            waiting, progress_at = self.unsent(), time.monotonic()
            while not self._poll(select.POLLOUT, _CHECK_SECONDS):
                now, before, waiting = time.monotonic(), waiting, self.unsent()
                if waiting < before:
                    progress_at = now
                elif now - progress_at >= (IMPATIENT_SECONDS if self._waits.is_stopping() else seconds):
                    self.is_broken = True
                    log.info(
                        "a client was disconnected, as it took nothing of its answer for %.0f s", now - progress_at
                    )
                    raise BrokenPipeError(errno.EPIPE, "the client takes nothing of its answer")
                self._stop_if_revoked()

    def _stop_if_revoked(self) -> None:
        if not self._may_still_go_on():
            self.is_broken = True
            log.info("an answer was broken off, as its client may no longer read it")
            raise BrokenPipeError(errno.EPIPE, "the client may not have its answer any more")

    def _may_still_go_on(self) -> bool:
        """Ask `may_go_on` every _CHECK_SECONDS."""
        if self.may_go_on is _always or time.monotonic() < self._next_check:
            return True
        self._next_check = time.monotonic() + _CHECK_SECONDS
        return self.may_go_on()

    def _poll(self, event: int, seconds: float) -> bool:
        """Wait for the event at most `seconds`, and at most until the next check. Returns whether it came."""
        poll = select.poll()
        poll.register(self._socket, event)
        return bool(poll.poll(max(0.0, min(seconds, _CHECK_SECONDS)) * 1000))

    def unsent(self) -> int:
        """Return how many bytes the client's machine has not taken yet. Raises OSError."""
        count = array.array("i", [0])
        fcntl.ioctl(self._socket, termios.TIOCOUTQ, count)
        return count[0]


def _always() -> bool:
    return True
