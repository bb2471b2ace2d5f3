"""A disk that fails or is full under the database of a running service: nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import processes
from tests.crash.load import check_history, exported
from tests.crash.test_each_system_error import is_traced
from tests.service import Service

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace to make system calls fail"),
]


@contextmanager
def failing(pid: int, fault: str, log: Path) -> Iterator[None]:
    """System calls of the process fail as `fault` says, for as long as the context lasts."""
    call = fault.split(":")[0]
    tracer = subprocess.Popen(
        ["strace", "-f", "-q", "-p", str(pid), "-o", str(log), "-e", f"trace={call}", "-e", f"inject={fault}"],
        stderr=subprocess.PIPE,
    )
    try:
        if not _attached(pid, tracer):
            pytest.skip("strace may not attach to a process here")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    assert "(INJECTED)" in log.read_text(), "no fault fired"


def _attached(pid: int, tracer: subprocess.Popen[bytes]) -> bool:
    processes.wait_until(lambda: is_traced(pid) or tracer.poll() is not None, "strace does not attach")
    return tracer.poll() is None


class Posts:
    """Events posted one by one, and what was answered."""

    def __init__(self, running: Service) -> None:
        self.acknowledged: dict[str, int] = {}
        self.refused: list[str] = []
        self._running = running
        self._count = 0

    def post(self) -> int:
        self._count += 1
        event_id = f"event-{self._count}"
        reply = self._running.post("/api/events", {"type": "a", "id": event_id})
        answer = reply.json()
        if reply.status == 201:
            self.acknowledged[event_id] = answer["results"][0]["sequence"]
        else:
            assert reply.status in (503, 507), answer
            assert answer["success"] is False
            assert answer["hint"]
            assert answer["code"] in ("write_failed", "no_space", "disk_failed", "store_unavailable"), answer
            assert reply.status == 507 or reply.headers["retry-after"]
            self.refused.append(event_id)
        return reply.status


FAULTS = [
    pytest.param("fdatasync:error=EIO", 503, id="EIO at a sync"),
    pytest.param("fdatasync:error=ENOSPC", 507, id="ENOSPC at a sync"),
    pytest.param("write:error=ENOSPC", 507, id="ENOSPC at a write"),
    pytest.param("write:error=EIO", 503, id="EIO at a write", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("fault", "status"), FAULTS)
def test_nothing_acknowledged_is_lost_by_a_disk_that_fails_for_a_while(
    service: Callable[..., Service], tmp_path: Path, fault: str, status: int
) -> None:
    running = service(workers=1)
    posts = Posts(running)
    for _ in range(3):
        assert posts.post() == 201
    (store,) = running.stores()
    with failing(store, fault, tmp_path / "strace.log"):
        assert posts.post() == status
        assert posts.post() == status
        health = running.get("/api/health").json()
        assert health["status"] == "degraded"
        assert health["problems"]
    processes.wait_until(lambda: posts.post() == 201, "the service does not go on", 60)
    for _ in range(3):
        assert posts.post() == 201
    assert running.stores() == [store]
    # The journal has met the fault too, and tries again later.
    processes.wait_until(lambda: running.get("/api/health").json()["status"] == "ok", "health stays degraded")
    os.kill(store, signal.SIGKILL)
    assert posts.post() == 201
    check_history(exported(running.port), posts.acknowledged)


def test_one_failed_write_is_noticed_by_nobody(service: Callable[..., Service], tmp_path: Path) -> None:
    running = service(workers=1)
    posts = Posts(running)
    assert posts.post() == 201
    (store,) = running.stores()
    with failing(store, "fdatasync:error=EIO:when=1", tmp_path / "strace.log"):
        assert posts.post() == 201
    assert posts.post() == 201
    assert not posts.refused
    assert "the database is reopened" in running.log()
    os.kill(store, signal.SIGKILL)
    assert posts.post() == 201
    check_history(exported(running.port), posts.acknowledged)
