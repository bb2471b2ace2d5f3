"""130 clients of each slow kind, with the real deadlines: health is answered at once, appends after a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from tests import processes
from tests.service import Service
from tests.slow_clients import KINDS, connected, large_events

COUNT = 130


@pytest.fixture(scope="module")
def backend(module_service: Callable[..., Service]) -> Service:
    running = module_service(workers=2)
    assert running.post("/api/events", large_events()).status == 201
    return running


def probe(service: Service, port: int) -> None:
    for _ in range(6):
        began = time.monotonic()
        assert service.request("GET", "/api/health/live", timeout=2, port=port).status == 200
        assert time.monotonic() - began < 2


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", ["gunicorn", "nginx"])
def test_liveness_is_answered_within_two_seconds(
    backend: Service, nginx: Callable[..., int], kind: str, behind: str
) -> None:
    port = nginx(backend.port) if behind == "nginx" else backend.port
    with connected(port, kind, COUNT):
        probe(backend, port)
        time.sleep(25)
        probe(backend, port)
        for path in ("/api/health", "/api/health/ready"):
            assert backend.request("GET", path, timeout=5, port=port).status == 200


@pytest.mark.parametrize("kind", ["bodies", "uploads", "unread pages"])
def test_behind_nginx_health_and_posts_are_answered_whatever_others_do(
    backend: Service, nginx: Callable[..., int], kind: str
) -> None:
    port = nginx(backend.port)
    with connected(port, kind, COUNT):
        assert backend.request("GET", "/api/health/live", timeout=10, port=port).status == 200
        processes.wait_until(partial(is_posted, backend, port), "events cannot be posted", 60)


def is_posted(service: Service, port: int) -> bool:
    """Post an event. On a busy machine, the large pages before it may take longer than a request waits for a thread."""
    reply = service.request("POST", "/api/events", {"type": "a"}, timeout=60, port=port)
    assert reply.status == 201 or (reply.status, reply.json()["code"]) == (503, "too_busy"), reply
    return reply.status == 201


def test_memory_of_large_answers_is_returned(backend: Service) -> None:
    """Without it, workers held some 400 MB more after 130 large readers."""
    workers = backend.workers()
    assert len(workers) == 2
    before = sum(map(processes.own_memory, workers))
    for _ in range(3):
        with connected(backend.port, "unread pages", 40):
            assert backend.get("/api/health/live", timeout=10).status == 200

    def returned() -> bool:
        return sum(map(processes.own_memory, workers)) < before + 100 * 2**20

    processes.wait_until(returned, "the workers hold on to their memory", 60)
