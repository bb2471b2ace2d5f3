"""`flask backup create`, `list`, `restore` and the others, on a store in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from app.cli import options
from app.factory import create_app
from eventvault.database.values import ScanQuery
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, flip
from tests.stores import running_service

Backup = Callable[..., Result]


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(3, "first"))
        yield service


@pytest.fixture
def backup(settings: Settings, service: StoreService) -> Backup:
    """Runs `flask backup …` on that store."""
    runner = create_app(settings, service).test_cli_runner()

    def run(*arguments: str, **more: Any) -> Result:
        return runner.invoke(args=["backup", *arguments], **more)

    return run


@pytest.fixture
def archive(service: StoreService) -> str:
    """The name of a backup of three events; two more were posted since."""
    name = service.create_backup("first").backup.name
    service.append(drafts(2, "second"))
    return name


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input is a terminal: click's runner types what the test has as `input`."""
    monkeypatch.setattr(options, "can_ask", lambda: True)


def answer(result: Result, status: int = 0) -> dict[str, Any]:
    assert result.exit_code == status, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["success"] is (status in (0, 8))
    return answer


def events(service: StoreService) -> int:
    return service.scan(ScanQuery(limit=1)).last_sequence


def test_create_prints_the_name_and_what_is_in_it(backup: Backup, service: StoreService) -> None:
    done = backup("create", "before the migration")

    (entry,) = service.list_backups()
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert (first, entry.label) == (entry.name, "before the migration")
    assert second.startswith("  3 events, ")
    assert "backing up" in done.stderr
    assert answer(backup("create", "--json"))["events"] == 3


def test_a_detached_create_prints_the_id_of_its_operation(backup: Backup, service: StoreService) -> None:
    operation = backup("create", "--detach").stdout.strip()

    entry = service.get_operation(operation)
    assert (entry.kind, entry.started_by) == ("create", "shell")


def test_list_shows_each_backup_and_how_far_back_one_can_go(
    backup: Backup, archive: str, service: StoreService
) -> None:
    service.pin_backup(archive, pinned=True)
    lines = backup("list", "--utc").stdout.splitlines()

    assert lines[0].split() == ["MADE", "(UTC)", "EVENTS", "SIZE", "VERIFIED", "NAME"]
    assert lines[1].endswith(archive)
    assert "⚑" in lines[1]
    assert lines[3].startswith("1 backup, ")
    assert lines[4].startswith("You can go back to any moment since 20")
    assert backup("list", "-q").stdout == f"{archive}\n"
    assert backup("list", "-q", "--damaged").stdout == ""
    assert backup("list", "-q", "--pinned").stdout == f"{archive}\n"
    assert backup("list", "-q", "--since", "1 h ago").stdout == f"{archive}\n"
    assert backup("list", "-q", "--since", "2100-01-01").stdout == ""
    assert [entry["name"] for entry in answer(backup("list", "--json"))["backups"]] == [archive]


def test_where_no_backup_is_asked_for_list_says_so(backup: Backup, archive: str) -> None:
    assert backup("list", "--pinned").stdout.startswith("No backup is like that.\n\n1 backup, ")


def test_without_a_backup_list_says_how_to_make_one(backup: Backup) -> None:
    assert backup("list").stdout == "There is no backup. Make one: flask backup create\n"


def test_show_tells_what_a_backup_holds(backup: Backup, archive: str) -> None:
    shown = dict(line.split(maxsplit=1) for line in backup("show", archive).stdout.splitlines())
    assert (shown["name"], shown["label"], shown["events"]) == (archive, "first", "3")
    assert shown["origin"] == "created, proven"
    assert json.loads(backup("show", archive, "--manifest").stdout)["events"] == 3
    assert answer(backup("show", archive, "--json"))["manifest"]["events"] == 3
    assert answer(backup("show", "none.tar.gz", "--json"), 3)["code"] == "backup_not_found"


def test_timeline_shows_the_generations(backup: Backup, archive: str, service: StoreService) -> None:
    service.restore(archive)
    lines = backup("timeline").stdout.splitlines()
    assert [line.split()[-1] for line in lines[1:3]][1] == "present"
    assert lines[-1] == "No gaps."
    assert len(answer(backup("timeline", "--json"))["generations"]) == 2


def test_a_restore_shows_its_plan_and_asks(backup: Backup, archive: str, service: StoreService, somebody: None) -> None:
    refused = backup("restore", archive, input="n\n")

    assert refused.exit_code == 1
    assert f"Going back to {archive}" in refused.output
    assert "set aside      2 events" in refused.output
    assert "first #4 " in refused.output
    assert events(service) == 5

    done = backup("restore", archive, input="y\n")
    assert done.exit_code == 0, done.output
    assert f"Back at {archive}: 3 events" in done.output
    assert events(service) == 3


def test_a_dry_run_changes_nothing(backup: Backup, archive: str, service: StoreService) -> None:
    shown = backup("restore", archive, "--dry-run")
    assert "Nothing is deleted: `flask backup undo` brings the 2 events back." in shown.stdout
    assert answer(backup("restore", archive, "--dry-run", "--json"))["plan"]["eventsLeftBehind"] == 2
    assert events(service) == 5


@pytest.mark.parametrize("moment", ["#2", "{generation}@#2"])
def test_a_restore_goes_to_a_sequence(backup: Backup, archive: str, service: StoreService, moment: str) -> None:
    generation = service.status()["store"]["generation"]
    done = answer(backup("restore", "--at", moment.format(generation=generation), "--yes", "--json"))
    assert (done["events"], events(service)) == (2, 2)


def test_a_restore_goes_to_an_instant(backup: Backup, archive: str, service: StoreService) -> None:
    newest = service.status()["window"]["newest"]["time"]
    assert answer(backup("restore", "--at", newest, "--yes", "--json"))["events"] == 5
    too_early = backup("restore", "--at", "2020-01-01", "--yes")
    assert too_early.exit_code == 3
    assert "HINT: " in too_early.stderr


def test_undo_brings_back_what_a_restore_replaced(
    backup: Backup, archive: str, service: StoreService, somebody: None
) -> None:
    service.restore(archive)
    service.append(drafts(1, "since"))
    assert "BY A RESTORE OF" in backup("undo", "--list").stdout

    done = backup("undo", input="y\n")

    assert done.exit_code == 0, done.output
    assert "comes back  5 events" in done.output
    assert "As it was: 5 events" in done.output
    assert "1 event posted since is set aside" in done.output
    assert events(service) == 5
    (previous,) = answer(backup("undo", "--list", "--json"))["undo"]
    assert previous["events"] == 4


def test_undo_of_nothing_is_a_conflict_or_not_there(backup: Backup) -> None:
    assert backup("undo", "--list").stdout == "There is nothing to undo.\n"
    assert answer(backup("undo", "--yes", "--json"), 3)["code"] == "nothing_to_undo"


def test_verify_names_the_damaged_one_among_good_ones(backup: Backup, archive: str, service: StoreService) -> None:
    assert backup("verify", archive).stdout == f"{archive} is good: every byte is as it was made.\n"
    assert "every record was read" in backup("verify", archive, "--records").stdout
    damaged = service.create_backup("second").backup
    flip(Path(damaged.path), -200)

    several = backup("verify", "--all")

    assert several.exit_code == 8
    assert several.stdout.startswith("1 of 2 are good. The others are not:\n")
    assert answer(backup("verify", "--all", "--json"), 8)["failed"][0]["name"] == damaged.name
    assert backup("verify", damaged.name).exit_code == 5
    assert backup("verify").exit_code == 2
    assert backup("verify", archive, "--all").exit_code == 2


def test_a_pin_has_a_reason_and_an_end(backup: Backup, archive: str, service: StoreService) -> None:
    done = backup("pin", archive, "--reason", "audit", "--until", "2100-01-31T00:00:00Z", "--utc")
    assert done.stdout == f"{archive} is kept from rotation until 2100-01-31 00:00:00: audit\n"
    assert "yes until 2100-01-31 00:00:00: audit" in backup("show", archive, "--utc").stdout
    assert backup("unpin", archive).exit_code == 0
    assert not service.list_backups()[0].pinned
    assert backup("pin", "none.tar.gz").exit_code == 3


@pytest.mark.parametrize("question", [options.ask, options.ask_for])
def test_ctrl_c_at_a_question_is_told_from_a_no(
    question: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.termui, "visible_prompt_func", interrupt)
    with pytest.raises(SystemExit) as ended:
        question("Go on?")
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("\nNothing was done.\n")


def test_a_delete_asks_for_the_name(backup: Backup, archive: str, service: StoreService, somebody: None) -> None:
    service.create_backup("second")
    wrong = backup("delete", archive, input="y\n")
    assert (wrong.exit_code, len(service.list_backups())) == (1, 2)

    done = backup("delete", archive, input=f"{archive}\n")

    assert done.exit_code == 0, done.output
    assert "for good" in done.output
    assert archive not in [entry.name for entry in service.list_backups()]
    last = service.list_backups()[0].name
    assert answer(backup("delete", last, "--yes", "--json"), 4)["code"] == "backup_protected"
    assert answer(backup("delete", last, "--yes", "--force", "--json"))["name"] == last


def test_a_download_is_a_copy_and_replaces_no_file(
    backup: Backup, archive: str, service: StoreService, tmp_path: Path
) -> None:
    content = Path(service.backup_path(archive)).read_bytes()
    folder = tmp_path / "usb"
    folder.mkdir()

    done = backup("download", archive, "-o", str(folder))

    assert done.exit_code == 0, done.output
    assert (folder / archive).read_bytes() == content
    assert "blake3:" in done.stdout
    assert answer(backup("download", archive, "-o", str(folder), "--json"), 4)["code"] == "backup_exists"
    assert [path.name for path in folder.iterdir()] == [archive]
    assert backup("download", archive, "-o", "-").stdout_bytes == content
    missing = backup("download", archive, "-o", str(tmp_path / "gone" / "a.tar.gz"))
    assert (missing.exit_code, "there is no folder" in missing.stderr) == (5, True)


@pytest.mark.parametrize(
    "arguments", [("restore", "any.tar.gz"), ("undo",), ("delete", "any.tar.gz"), ("restore", "any.tar.gz", "--json")]
)
def test_where_nobody_can_answer_nothing_is_done(backup: Backup, arguments: tuple[str, ...]) -> None:
    done = backup(*arguments)
    assert done.exit_code == 5
    assert "nothing was done" in done.output
    assert "--yes" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore",),
        ("restore", "a.tar.gz", "--at", "#1"),
        ("restore", "a.tar.gz", "--generation", "0123456789abcdef"),
        ("restore", "--at", "yesterday", "--yes"),
        ("list", "--since", "soon"),
    ],
)
def test_a_command_line_that_is_wrong_is_refused(backup: Backup, arguments: tuple[str, ...]) -> None:
    assert backup(*arguments).exit_code == 2
