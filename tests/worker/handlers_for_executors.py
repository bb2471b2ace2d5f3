"""Handlers that the executors under test import: everything that a handler may do to its process."""

import ctypes
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from marshmallow import Schema, fields

from worker.jobs import Fail, Job, Retry, Stopped, cron, job


@job("raise")
def raise_error(job: Job) -> NoReturn:
    raise ValueError(job.payload)


@job("sys_exit")
def sys_exit(_: Job) -> NoReturn:
    sys.exit(3)


@job("os_exit")
def os_exit(_: Job) -> NoReturn:
    os._exit(7)


@job("segfault")
def segfault(_: Job) -> None:
    print("before the fault")
    ctypes.string_at(0)


@job("eat_memory")
def eat_memory(_: Job) -> int:
    return len([bytearray(2**24) for _ in range(2**20)])


@job("kill_itself")
def kill_itself(_: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job("stop_nursery")
def stop_nursery(_: Job) -> str:
    os.kill(os.getppid(), signal.SIGSTOP)
    return "stopped"


@job("hang")
def hang(_: Job) -> None:
    time.sleep(3600)


@job("hang_on")
def hang_on(job: Job) -> None:
    """Make the file that the payload names, if it names one, and hang whatever it is told."""
    while True:
        try:
            if job.payload:
                Path(job.payload).touch()
            time.sleep(3600)
        except BaseException:  # noqa: BLE001 - the worst that a handler can do
            continue


@job("hang_in_c")
def hang_in_c(job: Job) -> None:
    Path(job.payload).touch()
    sum(itertools.repeat(1))  # holds the interpreter's lock, and no signal handler runs


@job("print_much")
def print_much(job: Job) -> str:
    block = "x" * 2**20
    for _ in range(job.payload):
        sys.stdout.write(block)
    print("the end")
    return "printed"


@job("return")
def return_value(job: Job) -> Any:
    return {"nan": math.nan, "deep_nan": {"a": [1, math.inf]}, "object": object(), "large": "x" * 10 * 2**20,
            "null": None, "surrogate": "\ud800", "nested": json.loads("[" * 501 + "]" * 501)}[job.payload]  # fmt: skip


@job("leave_child")
def leave_child(job: Job) -> str:
    child = subprocess.Popen(["sleep", "3600"])
    Path(job.payload).write_text(str(child.pid))
    return "left"


@job("leave_daemon")
def leave_daemon(job: Job) -> str:
    """Leave an orphan in a session of its own, as a daemon is started."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(f"{job.payload}.new").write_text(str(os.getpid()))
            Path(f"{job.payload}.new").rename(job.payload)
            time.sleep(3600)
        os._exit(0)
    os.wait()
    while not Path(job.payload).exists():
        time.sleep(0.001)
    return "left"


@job("leave_daemon_and_wait")
def leave_daemon_and_wait(job: Job) -> None:
    """Write the ids of a daemon and of this process, and hang."""
    daemon = Path(f"{job.payload}.daemon")
    leave_daemon(replace(job, payload=str(daemon)))
    Path(f"{job.payload}.written").write_text(f"{daemon.read_text()} {os.getpid()}")
    Path(f"{job.payload}.written").rename(job.payload)
    time.sleep(3600)


@job("fork_and_return")
def fork_and_return(_: Job) -> str:
    return "parent" if (child := os.fork()) and os.waitpid(child, 0) else "child"


@job("crash_with_child")
def crash_with_child(job: Job) -> None:
    leave_daemon(job)
    os._exit(1)


@job("environment")
def environment(_: Job) -> dict[str, str]:
    return dict(os.environ)


@job("about")
def about(job: Job) -> dict[str, Any]:
    return {"process": os.getpid(), "attempt": job.attempt, "maxAttempts": job.max_attempts, "id": job.id}


@job("retry")
def retry(job: Job) -> NoReturn:
    raise Retry("not now", after=job.payload)


@job("odd_texts")
def odd_texts(job: Job) -> NoReturn:
    job.progress(math.nan, "\ud800")
    raise Odd


class Odd(Exception):
    """Its text is no text, and says so."""

    def __str__(self) -> str:
        if os.getpid():
            raise ValueError("no text")
        return ""


@job("size")
def size(job: Job) -> str:
    return "x" * (len(job.payload) // 4)


@job("give_up")
def give_up(_: Job) -> NoReturn:
    raise Fail("there is no such customer")


@job("progress")
def progress(job: Job) -> None:
    for step in range(job.payload):
        job.progress(step / job.payload, f"step {step}")


@job("progress_and_wait")
def progress_and_wait(job: Job) -> None:
    progress(replace(job, payload=10_000))
    while not Path(job.payload).exists():
        time.sleep(0.005)


@job("clean_up")
def clean_up(job: Job) -> str:
    try:
        Path(f"{job.payload}.started").touch()
        time.sleep(3600)
    except Stopped as stopped:
        Path(job.payload).write_text(stopped.reason)
        raise
    return "never"


@job("wait_for")
def wait_for(job: Job) -> int:
    """Write a line to `<path>.started`, and end once `path` exists; then `<path>.ended` does."""
    with Path(f"{job.payload}.started").open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(job.payload).exists():
        time.sleep(0.005)
    Path(f"{job.payload}.ended").touch()
    return os.getpid()


class ReportSchema(Schema):
    table = fields.String(required=True)
    since = fields.Date()
    rows = fields.List(fields.Integer(strict=True))


@cron("0 3 * * *", time_zone="Europe/Berlin", payload={"table": "orders"})
@job("report", schema=ReportSchema, timeout=60, max_attempts=2, scope="admin")
def report(job: Job) -> dict[str, Any]:
    return {"table": job.payload["table"], "since": str(job.payload.get("since"))}
