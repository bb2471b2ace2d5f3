"""gunicorn's worker with threads, in which no number of slow clients keeps others from being served.

The main loop collects each request (`app.incoming`), so a thread begins once it need not wait for the client. Requests
run in *lanes*, each with threads of its own: health never waits for a thread, and long bodies take a bounded share. A
request that finds no thread in its lane for QUEUE_SECONDS is answered with 503. What a thread still waits for has
deadlines (`app.client_socket`). A stream holds no thread: its socket is handed to one writer (`app.streams.writer`).

Why gunicorn's `gthread` is not enough: a thread of it waits for a client without a deadline, and its main loop waits
while it closes a connection.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from app import freed_memory, gunicorn_patches
from app.client_socket import (
    BODY_GRACE_SECONDS,
    IMPATIENT_SECONDS,
    MAX_SILENCE_SECONDS,
    MIN_BODY_RATE,
    ClientSocket,
    Waits,
)
from app.incoming import Incoming, State
from app.streams.writer import StreamWriter

HEAD_SECONDS = 15.0
"""How long a request line and its headers may take, and a new connection until its first request."""
QUEUE_SECONDS = 10.0
"""How long a request waits for a thread."""
STOP_SECONDS = 3.0
"""How long a stopping worker still waits for clients."""
LINGER_SECONDS = 2.0
"""Seconds that a connection stays open after its last answer, for the client to close it.

They begin again with each part of a body that still arrives: a client that is sending when the connection is closed
might lose the answer.
"""
MAX_LINGER_SECONDS = 30.0
"""Seconds that a connection stays open for a client that goes on sending."""

LIVE_THREADS = 1
HEALTH_THREADS = 3
LONG_BODY_THREADS = 8
"""The rest of `threads` serves all other requests."""

_NOTICE_SECONDS = 0.25
_READ_BYTES = 64 * 1024
_SCAN_SECONDS = 0.25
_TRIM_SECONDS = 5.0
_TRIM_BYTES = 32 * 2**20
"""Growth of the memory in use, in bytes, from which an attempt to return some of it to the system is worthwhile."""


class Lane:
    """Requests of one kind: at most `limit` run at the same time, the others wait in the order of their arrival.

    prefixes: the beginnings of the requests for which the lane is reserved.
    """

    def __init__(self, limit: int, prefixes: tuple[bytes, ...] = ()) -> None:
        self.limit = limit
        self.prefixes = prefixes
        self.running = 0
        self.waiting: deque[ClientConnection] = deque()


class ClientConnection(TConn):
    """A connection of gthread, with the request that is arriving.

    deadline: of the main loop's wait for the client. ends_at: of a client that goes on sending (both monotonic).
    """

    def __init__(self, cfg: Any, client: ClientSocket, address: Any, server: Any) -> None:
        super().__init__(cfg, client, address, server)
        self.data_ready = True
        self.incoming = Incoming()
        self.is_ending = False
        self.deadline = 0.0
        self.ends_at = 0.0


class Worker(ThreadWorker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waits = Waits(self.cfg.threads // 2)
        self._clients: dict[ClientConnection, None] = {}
        """The connections that wait for their clients, the one that has waited longest first."""
        self._live = Lane(LIVE_THREADS, (b"GET /api/health/live", b"HEAD /api/health/live"))
        self._health = Lane(HEALTH_THREADS, (b"GET /api/health", b"HEAD /api/health"))
        self._long = Lane(LONG_BODY_THREADS)
        self._other = Lane(self.cfg.threads - LIVE_THREADS - HEALTH_THREADS - LONG_BODY_THREADS)
        self._lanes = (self._live, self._health, self._long, self._other)
        self._streams = StreamWriter(lambda client: self.method_queue.defer(self._end_stream, client))
        self._streaming: dict[ClientSocket, ClientConnection] = {}
        """The connections whose streams the writer sends."""
        self._lane_of: dict[ClientConnection, Lane] = {}
        """The lane of each connection whose request runs."""
        self._next_notice = 0.0
        self._next_scan = 0.0
        self._next_trim = 0.0
        self._least_resident = 2**63

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise ValueError("this worker speaks no TLS: let nginx or another proxy in front of it do so")
        if cfg.threads <= 2 * LONG_BODY_THREADS:
            raise ValueError(f"`threads` is {cfg.threads}, but must be above {2 * LONG_BODY_THREADS}")
        super().check_config(cfg, log)

    def init_process(self) -> None:
        freed_memory.bound_freed_memory()
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.cfg.threads)

    # What the main loop of gthread calls

    def notify(self) -> None:
        """Tell the master that the main loop runs, a few times a second.

        gunicorn changes the inode of a file each time. While the file system commits its journal, such a change has to
        wait. Without the limit, the loop would make two changes for each request, while the store syncs to the disk.
        """
        now = time.monotonic()
        if now >= self._next_notice:
            self._next_notice = now + _NOTICE_SECONDS
            super().notify()

    def accept(self, listener: Any) -> None:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM) and not self._make_room():
                time.sleep(_SCAN_SECONDS)  # otherwise the loop would spin, as the client still waits to be accepted
            return
        self.nr_conns += 1
        connection = ClientConnection(self.cfg, ClientSocket(client, self._waits), address, listener.getsockname())
        self._wait_for_client(connection, HEAD_SECONDS)
        if self.nr_conns >= self.worker_connections:
            self._make_room()

    def handle(self, conn: ClientConnection) -> Any:
        lane = self._lane_of[conn]
        allowance = BODY_GRACE_SECONDS if lane is self._long else IMPATIENT_SECONDS
        conn.sock.begin_request(bytes(conn.incoming.received), allowance, patient=not lane.prefixes)
        conn.incoming = Incoming()
        return super().handle(conn)

    def handle_request(self, req: Any, conn: ClientConnection) -> Any:
        conn.sock.request = req
        conn.sock.hold_head()
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock.send_head()

    def finish_request(self, conn: ClientConnection, fs: Future[Any]) -> None:
        """Continue with the connection of a request that has ended, and with the next one of its lane."""
        lane = self._lane_of.pop(conn)
        lane.running -= 1
        self._run_waiting(lane)
        if conn.sock.stream is not None:
            self._begin_stream(conn)
        elif conn.sock.is_broken:
            self._close(conn)
        elif fs.exception(0) is None and fs.result(0):  # without waiting: the future is done
            self._await_next_request(conn)
        else:
            self._end(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close or refuse connections past their deadline. gthread calls it after events; with `force` at the end."""
        now = time.monotonic()
        if not self.alive:
            self._streams.stop()
        if force:
            for conn in [*self._clients, *(conn for lane in self._lanes for conn in lane.waiting)]:
                self._close(conn)
            return
        if now < self._next_scan:
            return
        self._next_scan = now + _SCAN_SECONDS
        if not self.alive and self._waits.ends_at > now + STOP_SECONDS:
            self._hasten(now + STOP_SECONDS)
        for conn in [conn for conn in self._clients if conn.deadline <= now]:
            self._give_up(conn)
        for lane in self._lanes:
            while lane.waiting and lane.waiting[0].deadline <= now:
                self._refuse(lane.waiting.popleft(), *_TOO_BUSY)
        self._trim(now)

    def _begin_stream(self, conn: ClientConnection) -> None:
        self._streaming[conn.sock] = conn
        try:
            self._streams.add(conn.sock, conn.sock.stream)
        except (OSError, RuntimeError) as error:
            self.log.warning("a stream ends at once: %s", error)
            conn.sock.stream.close()
            self._end_stream(conn.sock)

    def _end_stream(self, client: ClientSocket) -> None:
        """End the connection of a stream that has ended."""
        conn = self._streaming.pop(client)
        if client.is_broken:
            self._close(conn)
        else:
            self._end(conn)

    # Waiting for clients

    def _wait_for_client(self, conn: ClientConnection, seconds: float) -> None:
        conn.deadline = min(time.monotonic() + seconds, self._waits.ends_at)
        self._clients[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))

    def _stop_waiting(self, conn: ClientConnection) -> None:
        if conn in self._clients:
            del self._clients[conn]
            self.poller.unregister(conn.sock)

    def _receive(self, conn: ClientConnection, _socket: object) -> None:
        """Take what has arrived. Called by the main loop if the socket is readable."""
        try:
            data = conn.sock.receive_now(_READ_BYTES)
        except OSError:
            self._close(conn)
            return
        if data is None:
            return
        if not data and (conn.is_ending or conn.incoming.state in (State.EMPTY, State.HEAD)):
            self._close(conn)
            return
        if conn.is_ending:
            conn.deadline = min(time.monotonic() + LINGER_SECONDS, conn.ends_at, self._waits.ends_at)
            return
        before = conn.incoming.state
        self._proceed(conn, before, conn.incoming.add(data), len(data))

    def _proceed(self, conn: ClientConnection, before: State, state: State, count: int) -> None:
        now = time.monotonic()
        match state:
            case State.READY | State.LONG:
                self._stop_waiting(conn)
                self._queue(conn)
            case State.HEAD_TOO_LARGE:
                self._refuse(conn, *_HEAD_TOO_LARGE)
            case State.HEAD if before is State.EMPTY and conn.initialized:  # the next request of a connection
                conn.deadline = min(now + HEAD_SECONDS, self._waits.ends_at)
            case State.BODY:
                begins = before is not State.BODY
                deadline = now + BODY_GRACE_SECONDS if begins else conn.deadline + count / MIN_BODY_RATE
                conn.deadline = min(deadline, now + MAX_SILENCE_SECONDS, self._waits.ends_at)

    def _await_next_request(self, conn: ClientConnection) -> None:
        """Wait for the next request of a connection, or begin it if the client has sent it already."""
        received = conn.parser.unreader.take_buffered() + conn.sock.take_unread()
        conn.incoming = Incoming(received)
        self._wait_for_client(conn, self.cfg.keepalive if self.alive else LINGER_SECONDS)
        self._proceed(conn, State.EMPTY, conn.incoming.state, len(received))

    def _give_up(self, conn: ClientConnection) -> None:
        """End a connection whose client let its deadline pass."""
        if conn.is_ending or conn.incoming.state is State.EMPTY:
            self._close(conn)
        else:
            self._refuse(conn, *(_TOO_SLOW if self.alive else _STOPPING))

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for its client. Returns whether there was one."""
        for conn in self._clients:
            self._close(conn)
            return True
        return False

    def _hasten(self, ends_at: float) -> None:
        """Let no client delay the stop of the worker."""
        self._waits.ends_at = ends_at
        idle_until = ends_at - STOP_SECONDS + LINGER_SECONDS
        for conn in self._clients:
            conn.deadline = min(conn.deadline, idle_until if conn.incoming.state is State.EMPTY else ends_at)

    # Lanes

    def _queue(self, conn: ClientConnection) -> None:
        lane = self._choose_lane(conn.incoming)
        conn.deadline = time.monotonic() + QUEUE_SECONDS
        lane.waiting.append(conn)
        self._run_waiting(lane)

    def _choose_lane(self, incoming: Incoming) -> Lane:
        if incoming.state is State.LONG:
            return self._long
        return next((lane for lane in self._lanes if incoming.begins_with(lane.prefixes)), self._other)

    def _run_waiting(self, lane: Lane) -> None:
        while lane.waiting and lane.running < lane.limit:
            conn = lane.waiting.popleft()
            lane.running += 1
            self._lane_of[conn] = lane
            self.enqueue_req(conn)

    # Ending connections

    def _refuse(self, conn: ClientConnection, status: int, reason: str, code: str, error: str, hint: str) -> None:
        from app.error_codes import error_body  # workers have it loaded; the master must not load Flask

        headers = ["Retry-After: 5"] if status == 503 else []
        conn.sock.send_now(gunicorn_patches.error_answer(status, reason, error_body(code, error, hint), *headers))
        self._end(conn)

    def _end(self, conn: ClientConnection) -> None:
        """Send nothing more, and close the connection once the client does, or soon."""
        self._stop_waiting(conn)
        conn.is_ending, conn.ends_at = True, time.monotonic() + MAX_LINGER_SECONDS
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
        else:
            self._wait_for_client(conn, LINGER_SECONDS)

    def _close(self, conn: ClientConnection) -> None:
        self._stop_waiting(conn)
        self.nr_conns -= 1
        conn.close()

    def _trim(self, now: float) -> None:
        """Return freed memory to the system, because the C library keeps what large answers took."""
        if now < self._next_trim:
            return
        self._next_trim = now + _TRIM_SECONDS
        with suppress(OSError, RuntimeError):  # no descriptor or no thread is free: it is tried again later
            resident = _resident_bytes()
            self._least_resident = min(self._least_resident, resident)
            if resident > self._least_resident + _TRIM_BYTES:
                threading.Thread(target=freed_memory.return_freed_memory, daemon=True, name="trim").start()


_TOO_BUSY = (
    503, "Service Unavailable", "too_busy", f"no thread was free for the request within {QUEUE_SECONDS:.0f} s",
    "nothing of it was done; send it again in a moment",
)  # fmt: skip
_TOO_SLOW = (
    408, "Request Timeout", "timeout", "the request did not arrive in time",
    f"send the headers within {HEAD_SECONDS:.0f} s, and a body with at least {MIN_BODY_RATE} bytes a second",
)  # fmt: skip
_STOPPING = (
    503, "Service Unavailable", "store_unavailable", "the service is stopping, and the request has not arrived whole",
    "nothing of it was done; send it again in a moment",
)  # fmt: skip
_HEAD_TOO_LARGE = (
    431, "Request Header Fields Too Large", "headers_too_large", "the request line and headers are too large",
    "send fewer or shorter headers",
)  # fmt: skip


def _resident_bytes() -> int:
    """Return how much memory this process has in use, without files; see proc(5), statm."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
