"""The load generator sends and counts requests correctly."""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.load import http_request, measure, quantile


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(body)
        if body == b"hang up":
            self.close_connection = True
            return
        self.send_response(503 if body == b"refuse" else 201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Seen", (Handler,), {"seen": []})) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.mark.slow
def test_every_request_is_sent_in_turn_and_counted_by_its_answer(server: ThreadingHTTPServer) -> None:
    bodies = [b"x" * 100_000, b"refuse", b"hang up", b"y"]
    requests = [http_request("POST", "/", body) for body in bodies]
    load = measure(server.server_port, requests, clients=3, seconds=60, most=40)
    assert load.requests == 40
    assert load.statuses == {"201": 20, "503": 10, "hung up": 10}
    assert 0 < load.p50 <= load.p99 <= load.slowest <= load.seconds
    seen: list[bytes] = server.RequestHandlerClass.seen  # type: ignore[attr-defined]
    assert sorted(seen) == sorted(bodies * 10)


@pytest.mark.slow
def test_requests_are_sent_at_the_requested_rate(server: ThreadingHTTPServer) -> None:
    load = measure(server.server_port, [http_request("POST", "/", b"x")], clients=4, seconds=0.5, rate=100)
    assert load.statuses == {"201": 50}


@pytest.mark.slow
def test_a_connection_that_the_server_closes_while_it_is_idle_is_made_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def answer_once_each() -> None:
            for _ in range(5):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.send(answer, socket.MSG_MORE)  # so that it arrives together with the end

        with ThreadPoolExecutor(1) as server:
            served = server.submit(answer_once_each)
            load = measure(listener.getsockname()[1], [http_request("GET", "/")], clients=1, seconds=60, most=5)
            served.result(60)
        assert load.statuses == {"200": 5}


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([1, 2, 3, 4], part) for part in (0, 0.5, 0.99, 1)] == [1, 3, 4, 4]
    assert quantile([], 0.5) == 0


def test_the_page_has_the_machine_and_every_row(tmp_path: Path) -> None:
    results = report.Report("Title")
    results.add(report.Row("posts", "12 events/s", "10", True))
    results.add(report.Row("hello", "20 requests/s"))
    report.write(tmp_path / "page.md", "Words.\n", results, tmp_path)
    page = (tmp_path / "page.md").read_text()
    assert "| posts | 12 events/s | 10 | yes |\n| hello | 20 requests/s |  |  |\n" in page
    assert f"data on {report.file_system(tmp_path)}" in page


def test_the_page_is_written_once_all_is_measured_and_not_after_an_error(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    report.add_options(parser)
    page = tmp_path / "page.md"
    options = parser.parse_args(["--folder", str(tmp_path), "--page", str(page)])

    def refused() -> None:
        with report.measuring(options, "Title", "Words.\n") as (folder, _):
            assert folder.parent == tmp_path
            raise SystemExit("it was refused")

    with pytest.raises(SystemExit):
        refused()
    assert list(tmp_path.iterdir()) == []
    with report.measuring(options, "Title", "Words.\n") as (_, results):
        results.add(report.Row("hello", "20 requests/s"))
        assert not page.exists()
    assert "\n## Title\n\nWords.\n" in page.read_text()
    assert list(tmp_path.iterdir()) == [page]
