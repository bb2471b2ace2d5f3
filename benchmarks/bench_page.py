"""`make bench-page`: measures the dashboard in Chromium, and what many open pages cost whoever posts.

The targets apply to the default options; `--help` lists all.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from playwright.sync_api import sync_playwright

from benchmarks import open_pages, report, serving
from benchmarks.bench_health import prepare
from benchmarks.bench_serve import posts
from benchmarks.load import Load
from benchmarks.load import measure as put_under_load
from tests.browser.conftest import until
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-page`, over loopback, in the system's Chromium without a window: the overview, opened by a browser
that has nothing of it yet, turn about with a page that says "hello" from bare Flask under the same gunicorn. Times are
medians, from the begin of the navigation. The weight is what came over the wire, headers included, until the bars of
the timeline were drawn; the first paint is that of an opening of its own, as nothing is weighed for "hello" either. The
frames are those of two seconds in which the handle is dragged to and fro. The posts are single ones, 50 a second, alone
and beside 100 open overviews: the requests of one real page in 30 seconds, 100 times as often, and 100 streams of
changes, as if each page was in a browser of its own.
"""
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
MOST_BYTES = 150_000
SENTENCE_SECONDS = 1.0
MOST_PAINT = 1.5
"""How many times as long as that of "hello" the first paint may take."""
LEAST_FRAMES = 50
PAGES = 100
POSTS_A_SECOND = 50
MOST_SLOWER = 2.0
"""How many times as long a post may take beside the pages, at the 99th percentile."""
DRAG_SECONDS = 2.0
WATCH_SENTENCE = """
new MutationObserver(() => {
  const title = document.querySelector('main h1');
  if (!window.sentenceAt && title && /safe/.test(title.textContent)) window.sentenceAt = performance.now();
}).observe(document, {subtree: true, childList: true, characterData: true});
"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
COUNT_FRAMES = """
seconds => new Promise(done => {
  const times = [];
  const frame = at => {
    times.push(at);
    if (at - times[0] < seconds * 1000) requestAnimationFrame(frame);
    else done((times.length - 1) / (at - times[0]) * 1000);
  };
  requestAnimationFrame(frame);
})
"""
MOVE_TO_AND_FRO = """
seconds => {
  const handle = document.querySelector('.tl-over');
  const box = handle.getBoundingClientRect();
  const send = (kind, share) => handle.dispatchEvent(new PointerEvent(kind,
    {bubbles: true, pointerId: 1, isPrimary: true, clientX: box.left + box.width * share, clientY: box.top + 60}));
  handle.setPointerCapture = () => {};
  send('pointerdown', 0.9);
  const began = performance.now();
  const step = () => {
    const passed = (performance.now() - began) / 1000;
    if (passed > seconds) return send('pointerup', 0.5);
    send('pointermove', 0.5 + 0.45 * Math.cos(passed * 3));
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}
"""


class Opened(NamedTuple):
    """What one opening took. Times in seconds."""

    sentence: float
    bars: float
    weight: int


def fill(service: Service, megabytes: int) -> None:
    """Post so many megabytes of events."""
    batch, size = 1000, 1000
    put_under_load(
        service.port, posts(8, batch, size), clients=2, seconds=3600, most=max(1, megabytes * 10**6 // (batch * size))
    )


@contextmanager
def fresh_page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    try:
        yield context.new_page()
    finally:
        context.close()


def open_overview(chromium: Any, base: str) -> Opened:
    with fresh_page(chromium) as page:
        weight = weigh(page)
        page.add_init_script(WATCH_SENTENCE)
        page.goto(f"{base}/")
        until(page, "window.sentenceAt")
        page.get_by_text("up to", exact=False).first.wait_for()
        bars = page.evaluate("performance.now()")
        return Opened(page.evaluate("window.sentenceAt") / 1e3, bars / 1e3, weight())


def weigh(page: Any) -> Callable[[], int]:
    """Count from now on what comes over the wire, in bytes."""
    sizes: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    return lambda: sum(sizes)


def first_paint(chromium: Any, base: str) -> float:
    with fresh_page(chromium) as page:
        page.goto(f"{base}/")
        until(page, FIRST_PAINT)
        return float(page.evaluate(FIRST_PAINT)) / 1e3


def frames_of_drag(chromium: Any, base: str) -> float:
    """Frames a second while the handle moves."""
    with fresh_page(chromium) as page:
        page.goto(f"{base}/")
        page.get_by_text("up to", exact=False).first.wait_for()
        page.evaluate(MOVE_TO_AND_FRO, DRAG_SECONDS)
        return float(page.evaluate(COUNT_FRAMES, DRAG_SECONDS))


def measure(results: report.Report, chromium: Any, vault: Service, hello: Service, rounds: int) -> None:
    opened, painted, greeted, frames = [], [], [], []
    for _ in range(rounds):
        greeted.append(first_paint(chromium, hello.base))
        painted.append(first_paint(chromium, vault.base))
        opened.append(open_overview(chromium, vault.base))
        frames.append(frames_of_drag(chromium, vault.base))
    weight = max(each.weight for each in opened)
    results.add(
        report.Row("over the wire, all of the overview", f"{weight / 1000:.0f} kB", "150 kB", weight <= MOST_BYTES)
    )
    sentence = statistics.median(each.sentence for each in opened)
    results.add(report.Row("until the sentence", f"{sentence * 1e3:.0f} ms", "1 s", sentence <= SENTENCE_SECONDS))
    paint, other = statistics.median(painted), statistics.median(greeted)
    times = f"{paint * 1e3:.0f} ms, {paint / other:.1f} × the {other * 1e3:.0f} ms of hello"
    results.add(report.Row("first paint", times, f"{MOST_PAINT} ×", paint <= MOST_PAINT * other))
    bars = statistics.median(each.bars for each in opened)
    results.add(report.Row("until the bars of the timeline", f"{bars * 1e3:.0f} ms"))
    least = statistics.median(frames)
    results.add(
        report.Row(
            "frames a second while the handle is dragged", f"{least:.0f}", str(LEAST_FRAMES), least >= LEAST_FRAMES
        )
    )


def measure_posts(results: report.Report, chromium: Any, vault: Service, seconds: float) -> None:
    """Compare posts alone with those beside many open pages."""
    alone = single_posts(vault, seconds)
    with fresh_page(chromium) as page:
        pages = open_pages.record(page, vault.base, PAGES)
    with open_pages.streams(vault, PAGES), ThreadPoolExecutor(1) as other:
        asking = other.submit(pages.ask, vault.port, seconds)
        beside = single_posts(vault, seconds)
        answered = asking.result(seconds + 60)
    ratio = beside.p99 / alone.p99
    times = f"p99 {beside.p99 * 1e3:.1f} ms, {ratio:.1f} × the {alone.p99 * 1e3:.1f} ms without"
    what = f"a post beside {PAGES} open pages, {pages.rate:.0f} requests/s"
    results.add(report.Row(what, times, f"{MOST_SLOWER:.0f} ×", ratio <= MOST_SLOWER))
    failed = sum(answered.failed.values()) + sum(beside.failed.values())
    results.add(report.Row("answers other than 2xx", str(failed), "0", not failed))


def single_posts(vault: Service, seconds: float) -> Load:
    return put_under_load(vault.port, posts(16, 1, 200), clients=16, seconds=seconds, rate=POSTS_A_SECOND)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_page", description=__doc__)
    parser.add_argument("--archives", type=int, default=10_000, help="number of archives in BACKUP_DIR")
    parser.add_argument("--restores", type=int, default=50, help="number of restores before")
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the events in the database")
    parser.add_argument("--rounds", type=int, default=8, help="how often each page is opened")
    parser.add_argument("--seconds", type=float, default=60, help="how long posts are measured, alone and beside pages")
    report.add_options(parser, workers=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    what = f"{options.archives:,} archives, {options.restores} restores, {options.megabytes:,} MB of events"
    with (
        report.measuring(options, "The page", f"{INTRODUCTION}\nThis run: {what}.\n") as (folder, results),
        serving.eventvault(folder, options.workers) as vault,
        serving.bare_flask(folder, options.workers) as hello,
        sync_playwright() as playwright,
    ):
        prepare(vault, options.archives, options.restores)
        fill(vault, options.megabytes)
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        measure(results, chromium, vault, hello, options.rounds)
        measure_posts(results, chromium, vault, options.seconds)
        chromium.close()


if __name__ == "__main__":
    main()
