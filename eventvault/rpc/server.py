"""Serves connections of a Unix socket: one thread for each, and as many as the process has descriptors for."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from eventvault import errors
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.rpc import frames

log = logging.getLogger("EventBus")

DRAIN_SECONDS = 5.0
"""How long a process that ends waits until the requests that it has read are answered."""
_ACCEPT_SECONDS = 0.25
_ACCEPT_AGAIN_SECONDS = 0.1
_REFUSE_SECONDS = 0.1
"""How long a connection that is refused has to send its request."""


class HandedOver(Exception):
    """The answer took over the connection: this server neither reads nor closes it any more."""


class ConnectionServer:
    """answer: answers one frame of a connection; its third argument is an object that stands for the connection.

    It raises OSError to close the connection, msgspec.MsgspecError or KeyError for an invalid request, or HandedOver.
    on_closed: called with that object in the end. refusal: the reply to a client for which there is no descriptor.
    """

    def __init__(
        self,
        answer: Callable[[socket.socket, bytes, object], None],
        on_closed: Callable[[object], None] = lambda _: None,
        *,
        refusal: bytes,
    ) -> None:
        self._answer = answer
        self._on_closed = on_closed
        self._refusal = refusal
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._answering = 0
        self._spare: int | None = None
        """A descriptor that is closed for a moment to refuse a connection, when there is no other."""
        self._reserve()  # now: its low number can be had again even if the limit is lowered later
        self._fails_to_accept = False
        self.last_closed = time.monotonic()
        """When a connection was closed for the last time."""

    @property
    def has_connections(self) -> bool:
        return bool(self._connections)

    def serve(self, listener: socket.socket, is_over: Callable[[], bool]) -> None:
        """Accept connections until `is_over`, which is asked several times a second."""
        listener.settimeout(_ACCEPT_SECONDS)
        while not is_over():
            try:
                self._accept(listener)
                self._fails_to_accept = False
            except TimeoutError:
                continue
            except (OSError, RuntimeError) as error:
                # No descriptor or no thread is free; one will be when another connection ends.
                if not self._fails_to_accept:
                    log.warning("accepting a connection failed: %s", error)
                self._fails_to_accept = True
                if not self._refuse(listener):
                    time.sleep(_ACCEPT_AGAIN_SECONDS)

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until every request that was read is answered, at most `seconds`."""
        with self._lock:
            self._idle.wait_for(lambda: self._answering == 0, seconds)

    def _reserve(self) -> None:
        if self._spare is None:
            with contextlib.suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _refuse(self, listener: socket.socket) -> bool:
        """Tell the next client that there is no descriptor for it. Returns False if there is none even for that."""
        if self._spare is None:
            self._reserve()
            return False
        os.close(self._spare)
        self._spare = None
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.settimeout(_REFUSE_SECONDS)
            frames.receive(connection)
            frames.send(connection, self._refusal)
        self._reserve()
        return True

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        frames.set_deadline(connection, frames.EXCHANGE_SECONDS)
        with self._lock:
            self._connections.add(connection)
        try:
            threading.Thread(target=self._serve_connection, args=(connection,), daemon=True, name="connection").start()
        except RuntimeError:
            with self._lock:
                self._connections.discard(connection)
            connection.close()
            raise

    def _serve_connection(self, connection: socket.socket) -> None:
        holder = object()
        is_ours = True
        try:
            while True:
                self._answer_next(connection, holder)
        except HandedOver:
            is_ours = False
        except (OSError, msgspec.MsgspecError, KeyError) as error:
            if not isinstance(error, OSError):
                log.warning("a connection was closed, because its request was invalid: %s", error)
        finally:
            self._on_closed(holder)
            with self._lock:
                self._connections.discard(connection)
                self.last_closed = time.monotonic()
            if is_ours:
                connection.close()

    def _answer_next(self, connection: socket.socket, holder: object) -> None:
        """Answer one request, in a separate method that frees the request's memory before the next wait."""
        try:
            frame = frames.receive(connection)
        except frames.NothingYet:
            return  # a client keeps its connections
        with self._counting():
            self._answer(connection, frame, holder)

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        with self._lock:
            self._answering += 1
        try:
            yield
        finally:
            with self._lock:
                self._answering -= 1
                self._idle.notify_all()


def failure_of(method: str, error: Exception, log: logging.Logger) -> errors.EventVaultError:
    """Log an unexpected error of a call, and return the answer to it."""
    if isinstance(error, SYSTEM_ERRORS):
        answer = as_answer(method.replace("_", " "), error)
        log.error("%s", answer)  # what the system says needs no traceback
        return answer
    log.error("%s failed", method, exc_info=error)
    return errors.EventVaultError(f"{method} failed", hint="the log says why")


def no_descriptor(who: str) -> errors.TooBusy:
    return errors.TooBusy(
        f"the {who} has no free descriptor for another connection",
        hint="try again when other requests have ended; raise the limit of open files (ulimit -n) of the service",
    )
