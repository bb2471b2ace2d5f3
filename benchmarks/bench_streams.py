"""`make bench-streams`: measures how soon a stream has an event that was posted, and what a histogram costs.

The targets apply to BENCH_OPTIONS='--size 2048'; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import re
import selectors
import socket
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from urllib.parse import urlencode

from benchmarks import report, serving
from benchmarks.bench_past import drop_from_page_cache
from benchmarks.bench_serve import fill
from benchmarks.load import quantile
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-streams`, over loopback. The delay of a stream is the time from the answer to a post until the event
has arrived at a client, of all streams; it is negative if the event is there before the answer. The histogram has 400
buckets from the first event until the last. Cold: the service was just started. From the disk: besides, the system was
asked to drop the database from the page cache. Warm: the median of asking for the same edges again. Moving: of asking
until now, so that each time no edge is known. All events are of one type.
"""
DELAY_SECONDS, COLD_SECONDS, WARM_SECONDS = 0.05, 0.3, 0.03
HISTOGRAM, BUCKETS = "/api/events/histogram", 400
_NUMBER = re.compile(rb'"id":"streamed-(\d+)"')


class Streams:
    """Clients of streams, read by one thread. arrivals: number of the event → when it came, of each stream."""

    def __init__(self, port: int, count: int) -> None:
        self.arrivals: dict[int, list[float]] = defaultdict(list)
        self._ended = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._open = ExitStack()
        for _ in range(count):
            connection = self._open.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            connection.sendall(b"GET /api/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if b" 200 " not in connection.recv(4096):
                raise SystemExit("a stream was refused")
            self._selector.register(connection, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.1):
                received = key.fileobj.recv(262_144)  # type: ignore[union-attr]
                now = time.perf_counter()
                for number in _NUMBER.findall(received):
                    self.arrivals[int(number)].append(now)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(60)
        self._open.close()


def measure_delay(options: argparse.Namespace, service: Service, results: report.Report) -> None:
    """Post at a calm pace while streams are open."""
    streams = Streams(service.port, options.streams)
    answered = []
    for number in range(options.posts):
        service.post("/api/events", {"type": "streamed", "id": f"streamed-{number}", "data": "x" * 200})
        answered.append(time.perf_counter())
        time.sleep(0.02)
    deadline = time.monotonic() + 30
    wanted = options.posts * options.streams
    while sum(map(len, streams.arrivals.values())) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    streams.close()
    delays = sorted(came - answered[number] for number, times in streams.arrivals.items() for came in times)
    median, late = statistics.median(delays), quantile(delays, 0.99)
    what = f"from a post's answer to the event on a stream, {options.streams} streams"
    times = f"p50 {median * 1e3:.1f} ms, p99 {late * 1e3:.1f} ms"
    results.add(report.Row(what, times, "p50 50 ms", median <= DELAY_SECONDS))
    missing = wanted - len(delays)
    results.add(report.Row("events that did not arrive, or arrived twice", f"{missing}", "0", missing == 0))


def ask(service: Service, address: str, **asked: str) -> float:
    """Return the seconds that an answer took."""
    began = time.perf_counter()
    reply = service.get(f"{address}?{urlencode(asked)}")
    took = time.perf_counter() - began
    if reply.status != 200:
        raise SystemExit(f"GET {address} answered {reply.status}: {reply.body[:500]!r}")
    return took


def whole(service: Service) -> dict[str, str]:
    """Return the parameters of a histogram of all events."""
    span = service.get(f"{HISTOGRAM}?buckets=1").json()
    return {"from": span["from"], "to": span["to"], "buckets": str(BUCKETS)}


def measure_histogram(subject: str, service: Service, same: dict[str, str], results: report.Report) -> None:
    cold = ask(service, HISTOGRAM, **same)
    results.add(report.Row(f"{subject}, cold", f"{cold * 1e3:.0f} ms", "300 ms", cold <= COLD_SECONDS))
    warm = _median(lambda: ask(service, HISTOGRAM, **same))
    results.add(report.Row(f"{subject}, warm", f"{warm * 1e3:.1f} ms", "30 ms", warm <= WARM_SECONDS))
    moving = _median(lambda: ask(service, HISTOGRAM, **{name: same[name] for name in ("from", "buckets")}))
    results.add(report.Row(f"{subject}, moving", f"{moving * 1e3:.1f} ms"))
    typed = _median(lambda: ask(service, HISTOGRAM, type="order.shipped", **same), 3)
    results.add(report.Row(f"{subject}, of one type", f"{typed * 1e3:.0f} ms"))
    types = _median(lambda: ask(service, "/api/events/types"), 3)
    results.add(report.Row("the types of the newest 200,000 events", f"{types * 1e3:.0f} ms"))
    newest = _median(lambda: ask(service, "/api/events", order="newest", limit="100"))
    results.add(report.Row("the newest 100 events", f"{newest * 1e3:.1f} ms"))


def _median(measured: Callable[[], float], times: int = 20) -> float:
    return statistics.median(measured() for _ in range(times))


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_streams", description=__doc__)
    parser.add_argument("--size", type=int, default=100, help="size of the events in MB")
    parser.add_argument("--streams", type=int, default=50, help="number of open streams")
    parser.add_argument("--posts", type=int, default=300, help="number of posts while they are open")
    report.add_options(parser, workers=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    with report.measuring(options, "Streams and overviews", INTRODUCTION) as (folder, results):
        with serving.eventvault(folder, options.workers) as service:
            measure_delay(options, service, results)
            fill(service, options.size)
            same = whole(service)
        subject = f"a histogram of {BUCKETS} buckets over {options.size:,} MB"
        with serving.eventvault(folder, options.workers) as service:
            measure_histogram(subject, service, same, results)
        drop_from_page_cache(folder)
        with serving.eventvault(folder, options.workers) as service:
            slow = ask(service, HISTOGRAM, **same)
            results.add(report.Row(f"{subject}, from the disk", f"{slow * 1e3:.0f} ms"))


if __name__ == "__main__":
    main()
