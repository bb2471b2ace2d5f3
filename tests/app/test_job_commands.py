"""`flask jobs …` on the double of the dispatcher."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
from click.testing import Result

from app import create_app
from app.cli import options
from app.cli.jobs import submitting
from eventvault import clock
from eventvault.audit.deeds import Deeds
from eventvault.errors import NoSpace
from eventvault.jobs.audited import audited
from eventvault.jobs.job import JobError, JobProgress, JobSchedule, JobType
from eventvault.jobs.memory_jobs import MemoryJobs
from eventvault.jobs.port import Jobs
from eventvault.scopes import SCOPES
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process
from tests.served import remote_store, served

Flask = Callable[..., Result]


@pytest.fixture
def jobs() -> MemoryJobs:
    double = MemoryJobs()
    double.offer(
        JobType(name="echo"), JobType(name="export", scope="read"), JobType(name="invoice.render", max_attempts=3),
        schedules=[JobSchedule(name="in-code", type="echo", cron="0 3 * * *")],
    )  # fmt: skip
    return double


@pytest.fixture
def flask(settings: Settings, store: MemoryStore, jobs: MemoryJobs) -> Flask:
    return partial(in_process(settings, store, jobs=jobs), "jobs")


def submit(flask: Flask, *words: str) -> str:
    done = flask("submit", *words, "--json")
    assert done.exit_code == 0, done.output
    job_id: str = json.loads(done.stdout)["results"][0]["id"]
    return job_id


def kill(jobs: MemoryJobs, job_id: str, reason: str = "ValueError: no") -> None:
    jobs.start(job_id)
    jobs.finish(job_id, error=JobError("job_failed", reason), output="one\ntwo")


def test_the_unfinished_jobs_are_listed_and_the_others_counted(flask: Flask, jobs: MemoryJobs) -> None:
    for number in range(5):
        submit(
            flask,
            "echo" if number < 4 else "export",
            "--id",
            f"j-{number}",
            *(["--delay", "5m"] if number == 2 else []),
        )
    jobs.start("j-0", JobProgress(0.62, "3 s left"))
    kill(jobs, "j-1")
    jobs.start("j-3")
    jobs.finish("j-3")
    done = flask("list")
    assert re.sub(r"\d+\.\d s ago", "0.0 s ago", done.stdout).splitlines() == [
        "STATE    TYPE    ATTEMPT  PROGRESS       SINCE      ID",
        "running  echo    1 of 5   62%, 3 s left  0.0 s ago  j-0",
        "pending  export  0 of 5                  0.0 s ago  j-4",
        "pending  echo    0 of 5   due in 5 min   0.0 s ago  j-2",
        "1 done, 1 dead: flask jobs list --dead",
    ]
    assert [job["id"] for job in json.loads(flask("list", "--state", "done", "--json").stdout)["jobs"]] == ["j-3"]
    assert flask("list", "--state", "cancelled").stdout == "No job is cancelled.\n"


def test_jobs_are_listed_while_the_disk_refuses_changes(
    flask: Flask, jobs: MemoryJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher answers what it can read, and has no numbers: those of its last turn may not be on disk."""

    def refused() -> None:
        raise NoSpace("writing to the database of jobs: No space left on device")

    submit(flask, "echo", "--id", "j-1")
    monkeypatch.setattr(jobs, "status", refused)
    row, numbers = flask("list").stdout.splitlines()[1:]
    assert row.startswith("pending  echo ")
    assert row.endswith("j-1")
    assert numbers == "How many jobs have ended is not known: writing to the database of jobs: No space left on device"
    shown = json.loads(flask("list", "--json").stdout)
    assert ([job["id"] for job in shown["jobs"]], shown["states"]) == (["j-1"], None)


def test_dead_ones_are_listed_with_their_reasons(flask: Flask, jobs: MemoryJobs) -> None:
    assert flask("list").stdout == "No job is unfinished.\n"
    submit(flask, "invoice.render", "--id", "j-1")
    kill(jobs, "j-1", "ran longer than 60 s and was ended")
    header, row = flask("list", "--dead", "--utc").stdout.splitlines()
    assert header.split() == ["TYPE", "ATTEMPTS", "DIED", "(UTC)", "WHY", "ID"]
    assert row.startswith("invoice.render  1         ")
    assert row.endswith("ran longer than 60 s and was ended  j-1")


def test_a_job_is_submitted_as_its_words_say(flask: Flask, jobs: MemoryJobs) -> None:
    done = flask("submit", "export", '{"type": "order.paid"}', "--delay", "5m", "--key", "exports", "--id", "j-1")
    assert (done.exit_code, done.stdout) == (0, "j-1 is due in 5 min\n")
    view = jobs.job("j-1")
    assert (bytes(view.payload or b""), view.job.key, view.job.by) == (b'{"type":"order.paid"}', "exports", "shell")
    assert flask("submit", "echo", "--id", "j-2").stdout == "j-2 waits for a worker\n"
    assert flask("submit", "echo", "1", "--id", "j-2").stdout == "j-2 was there already, and is pending; it differs\n"
    at = clock.format_microseconds(clock.now() + 3_600_000_000)
    assert flask("submit", "echo", "--id", "j-3", "--at", at).stdout == "j-3 is due in 60 min\n"


def test_whole_jobs_are_read_from_standard_input(flask: Flask, jobs: MemoryJobs) -> None:
    lines = '{"type": "echo", "id": "a"}\n{"type": "export", "id": "b", "priority": 9}\n'
    assert flask("submit", "-", input=lines).stdout == "a waits for a worker\nb waits for a worker\n"
    assert jobs.job("b").job.priority == 9
    assert flask("submit", "echo", "-", "--id", "c", input='{"n": 1}').exit_code == 0
    assert bytes(jobs.job("c").payload or b"") == b'{"n":1}'


def test_what_is_wrong_with_a_job_is_an_exit_status_and_a_sentence(flask: Flask) -> None:
    done = flask("submit", "exprt", "{}")
    assert (done.exit_code, done.stdout) == (5, "")
    assert done.stderr == (
        "there is no job type 'exprt'\n  type: Not the name of a type that a worker runs.\n"
        "HINT: did you mean export? Known: echo, export, invoice.render\n"
    )
    assert flask("submit", "echo", "{").exit_code == 5
    assert flask("submit", "echo", "@/nowhere").exit_code == 5
    assert flask("submit", "echo", "--delay", "soon").exit_code == 2
    assert flask("submit", "echo", "--at", "2030-01-01T00:00:00Z", "--delay", "1m").exit_code == 5
    assert json.loads(flask("submit", "exprt", "--json").stdout)["code"] == "job_type_unknown"


def test_a_job_is_shown_with_its_attempts_and_what_they_printed(flask: Flask, jobs: MemoryJobs) -> None:
    submit(flask, "echo", '{"n": 1}', "--id", "j-1")
    kill(jobs, "j-1")
    lines = flask("show", "j-1", "--utc").stdout.splitlines()
    assert lines[0] == "echo j-1: dead"
    assert lines[3:6] == ["attempts  1, 1 of 5 tries failed", "error     ValueError: no", 'payload   {"n":1}']
    assert re.sub(r"[\d:-]{8,} [\d:]{8}|\d\.\d s", "…", lines[6]) == "  1. … at h, …, failed: ValueError: no"
    assert lines[7:] == ["     | one", "     | two"]
    assert flask("show", "none").exit_code == 3


def test_watching_ends_with_the_job(flask: Flask, jobs: MemoryJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(flask, "echo", "--id", "j-1")
    steps = iter([lambda: jobs.start("j-1", JobProgress(0.5)), lambda: jobs.finish("j-1", b'{"rows":3}')])
    monkeypatch.setattr(submitting, "time", SimpleNamespace(sleep=lambda _: next(steps)()))
    done = flask("watch", "j-1")
    assert (done.exit_code, done.stdout) == (0, 'echo j-1 is done: {"rows":3}\n')
    submit(flask, "echo", "--id", "j-2")
    kill(jobs, "j-2")
    assert flask("watch", "j-2").exit_code == 1
    assert "the job j-2 is dead: ValueError: no\n" in flask("watch", "j-2").stderr
    submit(flask, "echo", "--id", "j-3")
    flask("cancel", "j-3")
    assert flask("watch", "j-3").exit_code == 6


def test_ctrl_c_leaves_a_watched_job_alone(flask: Flask, jobs: MemoryJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    submit(flask, "echo", "--id", "j-1")
    monkeypatch.setattr(submitting, "time", SimpleNamespace(sleep=interrupt))  # not in the threads of others
    done = flask("watch", "j-1")
    assert done.exit_code == 130
    assert done.stderr.endswith("The job j-1 goes on.\n")
    assert jobs.job("j-1").job.state == "pending"


def test_a_retry_by_filter_shows_and_retries_exactly_what_was_listed(
    flask: Flask, jobs: MemoryJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        submit(flask, "invoice.render" if number else "echo", "--id", f"j-{number}")
        kill(jobs, f"j-{number}")

    def one_more_dies() -> bool:
        submit(flask, "invoice.render", "--id", "late")
        kill(jobs, "late")
        return True

    monkeypatch.setattr(options, "can_ask", one_more_dies)
    listed = jobs.list_jobs
    monkeypatch.setattr(
        jobs, "list_jobs", lambda *words: type(page := listed(*words))([j for j in page.jobs if j.id != "late"], None)
    )
    done = flask("retry", "--dead", "--type", "invoice.render", input="y\n")
    assert done.exit_code == 0, done.output
    assert "2 jobs, the newest of " in done.stderr
    assert "Retry exactly these? [y/N]" in done.stderr
    assert done.stdout == "2 wait for a worker.\n"
    assert [jobs.job(each).job.state for each in ("j-0", "j-1", "j-2", "late")] == [
        "dead",
        "pending",
        "pending",
        "dead",
    ]


def test_nothing_is_retried_if_nobody_can_answer_or_the_answer_is_no(
    flask: Flask, jobs: MemoryJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(flask, "echo", "--id", "j-1")
    kill(jobs, "j-1")
    assert flask("retry", "--dead").exit_code == 5
    monkeypatch.setattr(options, "can_ask", lambda: True)
    assert flask("retry", "--dead", input="n\n").exit_code == 1
    assert jobs.job("j-1").job.state == "dead"
    assert flask("retry", "--dead", "--yes").stdout == "1 waits for a worker.\n"
    assert flask("retry", "--dead", "--yes").stdout == "There is none.\n"


@pytest.mark.slow
def test_ids_are_changed_without_a_question(flask: Flask, jobs: MemoryJobs) -> None:
    for number in range(3):
        submit(flask, "echo", "--id", f"j-{number}")
    jobs.start("j-1")
    done = flask("cancel", "j-0", "j-1", "none")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0, ["1 cancelled.", "1 still runs and is to stop.", "none is not there."]
    )  # fmt: skip
    assert flask("cancel", "j-0").stdout == "0 cancelled.\nj-0 is cancelled, and was not changed.\n"
    assert flask("retry", "none").exit_code == 3
    assert flask("retry", "j-0").stdout == "1 waits for a worker.\n"
    for wrong in ([], ["j-0", "--state", "pending"], ["j-0", "--type", "echo"]):
        assert flask("cancel", *wrong).exit_code == 2, wrong
    assert flask("cancel", "--state", "pending", "--type", "echo", "--yes").stdout == "2 cancelled.\n"


def test_types_are_listed_paused_and_resumed(flask: Flask, jobs: MemoryJobs) -> None:
    assert flask("pause", "echo").stdout == "Paused: echo.\n"
    assert flask("types").stdout.splitlines() == [
        "WORKERS  SCOPE  TIMEOUT  STATE   TYPE",
        "      1  write  15 min   paused  echo",
        "      1  read   15 min           export",
        "      1  write  15 min           invoice.render",
    ]
    assert flask("resume", "echo").stdout == "No type is paused.\n"
    assert flask("pause", "ecko").exit_code == 5
    submit(flask, "echo", "--id", "j-1")
    jobs.hold("j-1")
    assert flask("resume").exit_code == 2
    assert flask("resume", "--all").exit_code == 0
    assert jobs.job("j-1").job.state == "pending"


def test_a_schedule_is_made_listed_and_deleted(flask: Flask) -> None:
    made = flask("schedule", "nightly", "echo", '{"a": 1}', "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("nightly fires next at 20")
    rows = [line.split() for line in flask("schedules").stdout.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["in-code", "echo"], ["nightly", "echo"]]
    assert json.loads(flask("schedules", "--json").stdout)["schedules"][1]["payload"] == {"a": 1}
    assert flask("schedule", "in-code", "echo", "--cron", "0 4 * * *").exit_code == 4
    assert flask("schedule", "x", "echo", "--cron", "0 0 30 2 *").exit_code == 5
    assert flask("schedule", "x", "echo", "--cron", "0 3 * * *", "--time-zone", "Mars/Base").exit_code == 5
    assert flask("unschedule", "nightly").stdout == "nightly is deleted\n"
    assert flask("unschedule", "nightly").exit_code == 3


def test_what_a_command_changes_is_in_the_audit(settings: Settings, store: MemoryStore, jobs: MemoryJobs) -> None:
    run = partial(in_process(settings, store, jobs=audited(jobs, Deeds(store.note_deed))), "jobs")
    run("pause", "echo")
    assert [(line.action, line.who, line.state) for line in store.read_audit().lines] == [
        ("job-pause", "shell", "begun"), ("job-pause", "shell", "ended"),
    ]  # fmt: skip


@pytest.fixture
def remote(settings: Settings, store: MemoryStore, jobs: MemoryJobs) -> Iterator[Jobs]:
    from app.cli.remote.jobs import RemoteJobs

    app = create_app(settings, store, jobs=jobs, shared_seconds=0.0)
    with served(app) as url, remote_store(url) as client:
        yield RemoteJobs.over(client)


@pytest.mark.slow
def test_commands_work_over_http_too(settings: Settings, store: MemoryStore, jobs: MemoryJobs, remote: Jobs) -> None:
    run = partial(in_process(settings, store, jobs=remote), "jobs")
    submit(run, "echo", '{"n": 1}', "--id", "a/1", "--delay", "5m", "--priority", "3")
    submit(run, "echo", "--id", "j-2")
    kill(jobs, "j-2")
    assert "a/1" in run("list").stdout
    assert json.loads(run("show", "j-2", "--json").stdout) == json.loads(
        partial(in_process(settings, store, jobs=jobs), "jobs")("show", "j-2", "--json").stdout
    )
    assert run("retry", "--dead", "--yes").stdout == "1 waits for a worker.\n"
    assert run("cancel", "a/1").stdout == "1 cancelled.\n"
    assert run("pause", "echo").stdout == "Paused: echo.\n"
    assert run("resume", "echo").stdout == "No type is paused.\n"
    assert run("types").exit_code == 0
    assert run("schedule", "a b/ü", "echo", '{"a": 1}', "--cron", "0 3 * * *").exit_code == 0
    assert run("schedules").exit_code == 0
    assert run("unschedule", "a b/ü").exit_code == 0
    assert run("submit", "ecko").exit_code == 5
    assert run("show", "none").exit_code == 3
    assert set(SCOPES) >= {known.type.scope for known in remote.types()}
