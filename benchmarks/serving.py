"""Starts the two servers to compare: the service, and bare Flask under gunicorn with the same options."""

from __future__ import annotations

import ast
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import processes
from tests.ports import free_port
from tests.service import GUNICORN, PROJECT, Service, service_environment


@contextmanager
def eventvault(folder: Path, workers: int, more: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Yield the service with its data below `folder`, without automatic backups. more: further settings."""
    settings = {name: str(folder / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    settings |= {"WEB_CONCURRENCY": str(workers), "AUTO_BACKUP_ENABLED": "false", "LOG_LEVEL": "warning"}
    settings |= more or {}
    with _served(folder / "eventvault.log", settings, list(GUNICORN)) as service:
        service.wait_until_ready()
        yield service


@contextmanager
def caught_up(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Yield the service with one worker once its journal has all events of the database, as in normal operation."""
    with eventvault(folder, 1, more) as service:
        processes.wait_until(lambda: is_journaled(service), "the journal does not catch up", seconds=3600)
        os.sync()
        yield service


def is_journaled(service: Service) -> bool:
    health = service.get("/api/health").json()
    return bool(health["journal"]["lastSequence"] == health["store"]["lastSequence"])


@contextmanager
def bare_flask(folder: Path, workers: int) -> Iterator[Service]:
    """Yield 'hello' with the worker class, threads and keep-alive of `gunicorn.conf.py`, and no other option of it."""
    ours = plain_values(PROJECT / "gunicorn.conf.py")
    options = [
        *("--config", "python:benchmarks", "--workers", str(workers), "--worker-class", ours["worker_class"]),
        *("--threads", ours["threads"], "--keep-alive", ours["keepalive"], "--no-control-socket"),
    ]
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", *options, "--bind", f"127.0.0.1:{port}", "benchmarks.hello:app"]
    with _served(folder / "hello.log", {}, command, port) as service:
        processes.wait_until(lambda: _answers(service), "'hello' does not answer")
        yield service


@contextmanager
def _served(log: Path, settings: dict[str, str], command: list[str], port: int = 0) -> Iterator[Service]:
    port = port or free_port()
    mark = secrets.token_hex(8)
    service = Service(command, service_environment(settings, port, mark), port, log, mark)
    try:
        yield service
    finally:
        service.stop()


def _answers(service: Service) -> bool:
    with suppress(OSError):
        return service.get("/").status == 200
    return False


def plain_values(path: Path) -> dict[str, str]:
    """Return the constant assignments of a Python file: name → value as text."""
    return {
        target.id: str(node.value.value)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
