"""No wait is without a deadline, no file is opened but through the helper, no lock is held around files: read in code.

A call counts by the name of its function, so that a new wait of a kind that is known here is found wherever it stands.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = ("eventvault", "app", "worker")

POOLS = {
    "app/gunicorn_worker.py": "gunicorn, whose requests have deadlines",
    "eventvault/archive/output.py": "the chore that writes an archive",
    "eventvault/archive/parallel.py": "chores that read or write an archive",
    "eventvault/backups/table_check.py": "chores that check tables",
    "eventvault/database/bulk.py": "chores that build a database",
    "eventvault/rehearsals/compare.py": "the chore that reads what a rehearsal restored",
    "eventvault/restore/records.py": "the chore that checks every record",
}
"""Modules with thread pools, whose end waits for their jobs → where they run. A chore without progress is ended."""

OPENS = {
    "app/cli/events/import_file.py": "the file that a user names, which may be a pipe",
    "app/cli/events/post.py": "the file that a user names, which may be a pipe",
    "app/cli/jobs/submitting.py": "the file that a user names, which may be a pipe",
    "app/cli/group.py": "the standard streams of a command, which are open already or lie in /dev/null",
    "eventvault/regular_files.py": "the helper",
    "eventvault/clock_guard.py": "/proc",
    "eventvault/environment.py": "/proc",
    "eventvault/doctor/folders.py": "/proc",
    "eventvault/doctor/running_store.py": "/proc",
    "eventvault/progress.py": "/proc",
    "eventvault/chores.py": "/proc",
    "eventvault/file_locks.py": "/proc",
    "eventvault/store/process/ownership.py": "/proc",
    "eventvault/store/memory/archive_file.py": "the double for tests",
    "eventvault/store/memory/archives.py": "the double for tests",
    "eventvault/restore/start/startup.py": "tarfile, over a file that the helper opened",
    "eventvault/settings_docs.py": "written by `make docs`",
    "app/errors_docs.py": "written by `make docs`",
    "app/gunicorn_worker.py": "/proc",
    "app/docs/routes.py": "a part of the program",
    "app/docs/site.py": "parts of the program",
    "app/ui/files.py": "parts of the program",
    "worker/descendants.py": "/proc",
    "worker/executor.py": "/proc",
    "worker/heartbeat.py": "a file in the temporary folder, with the flags of the helper",
    "eventvault/jobs/dispatcher.py": "the transport and the database of jobs",
    "app/dispatcher/opening.py": "the dispatcher",
    "eventvault/jobs/joined_transport.py": "the two transports of jobs that it joins",
    "worker/supervisor.py": "the transport of jobs, which is no file",
}
"""Modules that open files by themselves → what they open: nothing that a stranger could replace by a pipe."""

LOCKS_AROUND_FILES: dict[str, str] = {
    "eventvault/chores.py": "a child is begun and noted in one step, so that a stop finds every one of them",
    "eventvault/operations/lines.py": "a line to the parent process, which reads all the time",
    "eventvault/archive/output_files.py": "descriptors are closed, nothing is read or written",
    "eventvault/clock_guard.py": "`_read` reads the clocks",
    "app/store/scheduler.py": "APScheduler's jobs are in memory",
}
"""Modules with a plain lock around a call that may last → why it must be so. Others take a `progress.Turn`."""

WAITS_BY_NAME = frozenset(
    """
    wait join acquire result exception communicate shutdown wait_for get run call check_call check_output waitpid waitid
    flock lockf fcntl select settimeout FileLock SoftFileLock as_completed
    """.split()  # noqa: SIM905
)
"""Only such calls are looked at."""
WHOLE_FILES = ("read_text", "read_bytes", "write_text", "write_bytes")

QUEUES = ("queue", "_accepted")
SLOTS = (".transfers", ".long_calls", ".long_answers")
"""`app.edge.Slots`: how long a request waits for one is decided there."""

MAY_LAST = frozenset(
    """
    open_file open_handle read_file write_durably durable_file rename_durably remove_durably sync_folder make_folder
    fsync fdatasync unlink rename rmtree mkdir scandir iterdir glob stat lstat exists is_file is_dir walk copyfile
    run communicate Popen accept connect sendall recv receive send write_segment read_header read_lines copy_database
    load _load save _save _write _read read write quarantine entries scan
    """.split()  # noqa: SIM905
)


def modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (PROJECT / room).rglob("*.py"))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def receiver_of(call: ast.Call) -> str:
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def has_deadline(call: ast.Call, position: int) -> bool:
    """Whether a call has a time-out: by name, or as the argument at `position`; None is none."""
    named = [keyword.value for keyword in call.keywords if keyword.arg in ("timeout", "seconds", "blocking")]
    given_by_position = call.args[position : position + 1]
    return any(not (isinstance(value, ast.Constant) and value.value is None) for value in (*named, *given_by_position))


def waits_without_end(call: ast.Call) -> bool:
    name = name_of(call)
    if name not in WAITS_BY_NAME:
        return False
    receiver = receiver_of(call)
    is_method = isinstance(call.func, ast.Attribute)
    if is_method and name in ("wait", "join", "acquire", "result", "exception", "communicate", "shutdown"):
        if name == "communicate":
            return not has_deadline(call, 1)
        if name == "shutdown":  # of a pool or a scheduler; of a socket it has an argument and does not wait
            return not call.args and not any(keyword.arg in ("wait", "cancel_futures") for keyword in call.keywords)
        return not has_deadline(call, 0) and not receiver.endswith(SLOTS)
    if is_method and (name == "wait_for" or (name == "get" and receiver.endswith(QUEUES))):
        return not has_deadline(call, 1)
    if receiver == "subprocess" and name in ("run", "call", "check_call", "check_output"):
        return not has_deadline(call, 99)
    if receiver == "os" and name in ("wait", "waitpid", "waitid"):
        return "WNOHANG" not in ast.unparse(call)
    if receiver == "fcntl" and name in ("flock", "lockf"):
        return "LOCK_NB" not in ast.unparse(call) and not any(isinstance(arg, ast.Name) for arg in call.args[1:])
    if receiver == "fcntl" and name == "fcntl":
        return "SETLKW" in ast.unparse(call)
    if receiver == "select" and name == "select":
        return not has_deadline(call, 3)
    if name == "settimeout":
        return ast.unparse(call.args[0]) == "None"
    if name in ("FileLock", "SoftFileLock"):
        return not has_deadline(call, 1)
    return name in ("as_completed",) and not has_deadline(call, 1)


def opens_by_itself(call: ast.Call) -> bool:
    name = name_of(call)
    if name not in ("open", *WHOLE_FILES):
        return False
    receiver = receiver_of(call)
    if receiver == "os":
        return name == "open" and "O_DIRECTORY" not in ast.unparse(call) and "os.devnull" not in ast.unparse(call)
    if name in WHOLE_FILES:
        return receiver not in ("", "small_files")
    if name != "open":
        return False
    return not receiver or bool(call.args or call.keywords)


def locks_around_files(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each call that may last inside of `with` a plain lock."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(is_plain_lock(item.context_expr) for item in node.items):
            for statement in node.body:
                for call in calls(statement):
                    receiver = receiver_of(call)
                    if name_of(call) in MAY_LAST and not receiver.endswith(("connection.send",)):
                        yield call.lineno, ast.unparse(call.func)


def is_plain_lock(expression: ast.expr) -> bool:
    text = ast.unparse(expression)
    return not text.endswith(")") and any(word in text for word in ("lock", "_changed", "_state", "_idle", "condition"))


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """Rule → the places that break it. Each module is parsed once, as that takes longest."""
    places = defaultdict[str, list[str]](list)
    for path in modules():
        relative, tree = str(path.relative_to(PROJECT)), ast.parse(path.read_text())
        for call in calls(tree):
            for rule, (breaks, allowed) in RULES.items():
                if relative not in allowed and breaks(call):
                    places[rule].append(f"{relative}:{call.lineno}: {ast.unparse(call)[:100]}")
        if relative not in LOCKS_AROUND_FILES:
            places["locks"] += [f"{relative}:{line}: {text}" for line, text in locks_around_files(tree)]
    return places


RULES: dict[str, tuple[Callable[[ast.Call], bool], dict[str, str]]] = {
    "waits": (waits_without_end, {}),
    "pools": (lambda call: name_of(call) == "ThreadPoolExecutor", POOLS),
    "opens": (opens_by_itself, OPENS),
}
"""Rule → whether a call breaks it, and the modules that may."""


def test_every_wait_has_a_deadline(found: dict[str, list[str]]) -> None:
    assert found["waits"] == []


def test_thread_pools_are_used_in_chores_and_for_requests_only(found: dict[str, list[str]]) -> None:
    assert found["pools"] == []


@pytest.mark.slow
def test_every_file_is_opened_by_the_helper(found: dict[str, list[str]]) -> None:
    assert found["opens"] == []


@pytest.mark.slow
def test_no_plain_lock_stands_around_files_processes_or_sockets(found: dict[str, list[str]]) -> None:
    assert found["locks"] == []


@pytest.mark.parametrize("allowed", [POOLS, OPENS, LOCKS_AROUND_FILES])
def test_the_exceptions_are_modules_that_exist(allowed: dict[str, str]) -> None:
    assert [module for module in allowed if not (PROJECT / module).is_file()] == []


WAITS = """
thread.join()
event.wait()
event.wait(None)
lock.acquire()
lock.acquire(timeout=None)
future.result()
future.result(timeout=None)
child.wait()
child.communicate(data)
self._queue.get()
self._condition.wait_for(lambda: True)
subprocess.run(["x"])
os.waitpid(1, 0)
fcntl.flock(handle, fcntl.LOCK_EX)
fcntl.fcntl(handle, fcntl.F_OFD_SETLKW, x)
select.select([a], [], [])
connection.settimeout(None)
FileLock(path)
as_completed(futures)
pool.shutdown()
"""
NO_WAITS = """
thread.join(5)
event.wait(timeout=5)
lock.acquire(blocking=False)
lock.acquire(timeout=1)
", ".join(names)
future.result(0)
child.communicate(data, timeout=1)
self._queue.get(True, 5)
self._condition.wait_for(lambda: True, 3)
subprocess.run(["x"], timeout=5)
os.waitpid(1, os.WNOHANG)
fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.fcntl(handle, fcntl.F_OFD_SETLK, x)
select.select([a], [], [], 1)
connection.settimeout(5)
FileLock(path, timeout=1)
as_completed(futures, 5)
connection.shutdown(socket.SHUT_RDWR)
mapping.get(key)
"""


@pytest.mark.parametrize("line", WAITS.strip().splitlines())
def test_a_wait_without_end_is_found(line: str) -> None:
    assert [call for call in calls(ast.parse(line)) if waits_without_end(call)]


@pytest.mark.parametrize("line", NO_WAITS.strip().splitlines())
def test_a_wait_with_an_end_is_none(line: str) -> None:
    assert not [call for call in calls(ast.parse(line)) if waits_without_end(call)]


@pytest.mark.parametrize("line", ["open(path)", 'path.open("rb")', "os.open(path, os.O_RDONLY)", "path.read_bytes()"])
def test_a_file_that_is_opened_without_the_helper_is_found(line: str) -> None:
    assert [call for call in calls(ast.parse(line)) if opens_by_itself(call)]


def test_a_lock_around_a_file_is_found() -> None:
    source = "with self._lock:\n    write_durably(path, b'')\nwith self._turn.held():\n    write_durably(path, b'')"
    assert list(locks_around_files(ast.parse(source))) == [(2, "write_durably")]
