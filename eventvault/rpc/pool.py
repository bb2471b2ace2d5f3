"""Open connections that wait for their next request. Safe for many threads; none is shared across a fork."""

from __future__ import annotations

import os
import socket
import threading

_MOST = 32


class ConnectionPool:
    def __init__(self) -> None:
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._process = os.getpid()

    def take(self) -> socket.socket | None:
        """Return a connection; its other end may have closed it."""
        with self._lock:
            if self._process != os.getpid():
                self._connections, self._process = [], os.getpid()
            return self._connections.pop() if self._connections else None

    def put_back(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._connections) < _MOST:
                self._connections.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
