"""The application of a test behind a real HTTP server in this process, and a client of the ports for it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from app.cli.remote.address import parse
from app.cli.remote.store import RemoteStore
from app.cli.remote.transport import Transport


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        pass


@contextmanager
def served(app: Flask, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yield the address at which the application is served."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, ssl_context=tls)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(90)


@contextmanager
def remote_store(url: str, token: str | None = None) -> Iterator[RemoteStore]:
    store = RemoteStore.over(Transport(parse(url, insecure=False), token))
    try:
        yield store
    finally:
        store.close()
