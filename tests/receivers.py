"""Real receivers of notifications for a test: a mail server, and webhooks that answer, refuse or hang."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from tests.ports import free_port


class Hook:
    """A webhook.

    status: what it answers; None: it reads and hangs until `release` is called. location: where it redirects to.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.status: int | None = 200
        self.location: str | None = None
        self.authorizations: list[str | None] = []
        self.paths: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.arrived = threading.Event()
        self._released = threading.Event()

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook/geheim"

    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def release(self) -> None:
        self._released.set()

    def receive(self, path: str, body: bytes) -> int:
        self.arrived.set()
        if self.status is None:
            self._released.wait(60)
            return 200
        if self.status == 200:
            self.paths.append(path)
            if body:
                self.messages.append(json.loads(body))
        return self.status


@contextmanager
def hooked() -> Iterator[Hook]:
    """Yield a webhook that runs until the context is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status = hook.receive(self.path, self.rfile.read(length))
            hook.authorizations.append(self.headers.get("Authorization"))
            self.send_response(status)
            if hook.location is not None:
                self.send_header("Location", hook.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - its base has these names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook = Hook(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hook
    finally:
        hook.release()
        server.shutdown()
        server.server_close()
        thread.join(60)


class Mailbox:
    """A mail server that keeps what it gets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mails: list[email.message.EmailMessage] = []

    @property
    def address(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=vault@example.org&to=geheim@example.org"

    def titles(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]

    def text(self, place: int) -> str:
        body = self.mails[place].get_body(("plain", "html"))
        assert body is not None
        return str(body.get_content())

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    mailbox = Mailbox(free_port())
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()
