"""Eight bodies of 32 MiB at once that would fill the memory as objects: no worker ends, and memory is bounded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import processes
from tests.service import Service

AT_ONCE = 8
SIZE = 32 * 2**20
MOST_MEMORY = 1536 * 2**20
STATUSES = {201, 400, 413, 422, 503}
JSON = {"Content-Type": "application/json"}


def repeated(begin: bytes, part: bytes, end: bytes) -> bytes:
    return begin + part * ((SIZE - len(begin) - len(end)) // len(part)) + end


BOMBS: dict[str, Callable[[], bytes]] = {
    "empty lists": lambda: repeated(b"[", b"[],", b"0]"),
    "objects": lambda: repeated(b"[", b'{"a":1},', b"{}]"),
    "objects in data": lambda: repeated(b'{"type":"a","data":[', b'{"a":{}},', b"0]}"),
    "numbers in data": lambda: repeated(b'{"type":"a","data":[', b"1,", b"0]}"),
    "nested lists": lambda: b"[" * SIZE,
    "bad events": lambda: repeated(b"[", b'{"type":1},', b"{}]"),
    "bad attributes": lambda: (
        b'{"type":"a",' + b",".join(b'"A-%07d":[1]' % number for number in range(SIZE // 16 - 1)) + b"}"
    ),
    "one text": lambda: repeated(b'{"type":"a","data":"', b"x", b'"}'),
    "escapes": lambda: repeated(b'{"type":"a","data":"', rb"\u00e9", b'"}'),
}


@pytest.fixture(scope="module")
def running(module_service: Callable[..., Service]) -> Service:
    return module_service(workers=2, environment={"AUTO_BACKUP_ENABLED": "false"})


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "objects" else pytest.mark.soak) for kind in BOMBS]
)
def test_eight_bodies_at_once_end_no_worker(running: Service, kind: str) -> None:
    body = BOMBS[kind]()
    assert len(body) <= SIZE
    workers, most = sorted(running.workers()), [0]

    def look() -> None:
        most[0] = max(most[0], sum(map(memory_of, running.processes())))

    with processes.repeated(look, 0.05), ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [pool.submit(running.post, "/api/events", body, headers=JSON) for _ in range(AT_ONCE)]
        for _ in range(3):
            assert running.get("/api/health/live", timeout=30).status == 200
        statuses = [answer.result().status for answer in answers]
    print(f"{kind}: {sorted(statuses)}, {most[0] / 2**20:.0f} MiB at most")
    assert set(statuses) <= STATUSES
    assert sorted(running.workers()) == workers
    assert 0 < most[0] <= MOST_MEMORY
    assert running.post("/api/events", {"type": "after"}).status == 201


def memory_of(process: int) -> int:
    try:
        return processes.own_memory(process)
    except OSError:
        return 0
