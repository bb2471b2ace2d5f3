"""`flask backup create`, `list`, `restore` and the others, on a store in this process."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import Result

from app.cli import options, text, watching
from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import DatabaseDamaged
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.records import CANCELLED
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.command_line import in_process
from tests.restoring import drafts, flip
from tests.stores import running_service

pytestmark = pytest.mark.slow

Backup = Callable[..., Result]


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(3, "first"))
        yield service


@pytest.fixture
def backup(settings: Settings, service: StoreService) -> Backup:
    """Runs `flask backup …` on that store."""
    return partial(in_process(settings, service), "backup")


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


def test_a_second_ctrl_c_ends_the_command_alone_and_the_operation_is_named(
    backup: Backup, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "follow", interrupt)
    monkeypatch.setattr(service, "cancel_operation", lambda _: None)
    done = backup("create")
    (operation,) = service.list_operations(OperationQuery())
    assert done.exit_code == 130
    assert f"The operation {operation.id} goes on: flask operations watch {operation.id}\n" in done.stderr


def test_ctrl_c_while_events_are_copied_says_that_some_stay(
    backup: Backup, archive: str, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = watching.follow, list[str]()

    def interrupt_first(store: StoreService, operation_id: str, show: watching.Show) -> OperationEntry:
        asked.append(operation_id)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return msgspec.structs.replace(real(store, operation_id, show), state=CANCELLED)

    monkeypatch.setattr(watching, "follow", interrupt_first)
    done = backup("restore", archive, "--into", "present", "--yes")
    assert done.exit_code == 130
    assert "Cancelled; what was appended stays.\n" in done.stderr


HOSTILE = "Evil \u202e[red]x[bold] $(id) %s.tar.gz"


def test_a_hostile_name_is_shown_as_it_is_and_controls_nothing(
    backup: Backup, archive: str, service: StoreService, settings: Settings, tmp_path: Path, somebody: None
) -> None:
    shutil.copy(service.backup_path(archive), settings.backup_dir / HOSTILE)
    shown = HOSTILE.replace("\u202e", "\\u202e")
    service.pin_backup(HOSTILE, pinned=True, reason="\x1b[31mred\x9b31m\u2066[bold]")
    commands = [
        ("list",), ("show", HOSTILE), ("verify", HOSTILE), ("prune", "--dry-run"), ("restore", HOSTILE, "--dry-run"),
        ("download", HOSTILE, "-o", str(tmp_path / "copy.tar.gz")), ("unpin", HOSTILE), ("list", "--json"),
    ]  # fmt: skip
    for words in commands:
        done = backup(*words)
        assert done.exit_code == 0, done.output
        assert all(line.isprintable() for line in done.output.splitlines()), words
    assert shown in backup("list").stdout
    assert f"verifying {shown}\n" in backup("verify", HOSTILE).stderr
    asked = backup("delete", HOSTILE, input="no\n").output
    assert shown in asked
    assert all(line.isprintable() for line in asked.splitlines())
    assert [each["name"] for each in answer(backup("list", "--json"))["backups"]][-1] in (HOSTILE, archive)


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
    header = next(number for number, line in enumerate(lines) if line.startswith("GENERATION"))
    assert [line.split()[-1] == "present" for line in lines[header + 1 : header + 3]] == [False, True]
    assert re.fullmatch(r"No gaps\. At risk now: \d+(\.\d)? s\.", lines[-1])
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
    nearest = re.search(r"HINT: the nearest moment: flask backup restore (--at \S+)\n", too_early.stderr)
    assert nearest is not None
    assert answer(backup("restore", *nearest[1].split(), "--yes", "--json"))["events"] == 0


@pytest.fixture
def replaced(service: StoreService, archive: str) -> str:
    """The name of a backup whose last two events the present one has lost; it has another one instead."""
    name = service.create_backup("five").backup.name
    service.restore(archive)
    service.append(drafts(1, "third"))
    return name


def test_restore_into_present_appends_what_matches(
    backup: Backup, replaced: str, service: StoreService, somebody: None
) -> None:
    refused = backup("restore", replaced, "--into", "present", input="n\n")
    assert refused.exit_code == 1
    assert f"Append the events of {replaced} that match as new ones?" in refused.stderr
    assert events(service) == 4

    one = backup("restore", replaced, "--into", "present", "--from-sequence", "5", input="y\n")
    assert one.stdout == "1 event matches: 1 appended as new, 0 there already.\n"
    done = answer(backup("restore", "--at", "#3", "--into", "present", "--yes", "--json"))
    assert (done["into"], done["matched"], done["appended"], done["alreadyThere"]) == ("present", 3, 0, 3)
    all_of_it = backup("restore", replaced, "--into", "present", "--yes")
    assert all_of_it.stdout == "5 events match: 1 appended as new, 4 there already.\n"
    assert events(service) == 6
    assert len(backup("restore", replaced, "--into", "present", "--yes", "--detach").stdout.strip()) == 16


def test_restore_into_a_file_writes_what_matches_and_changes_nothing(
    backup: Backup, replaced: str, service: StoreService, tmp_path: Path
) -> None:
    path = tmp_path / "lost.ndjson"
    done = backup("restore", replaced, "--into", str(path), "--from-sequence", "2", "--to-sequence", "4")
    assert (done.exit_code, done.stdout.startswith(f"{path}  3 events, ")) == (0, True)
    written = path.read_bytes()
    assert [json.loads(line)["sequence"] for line in written.splitlines()] == [2, 3, 4]

    assert answer(backup("restore", replaced, "--into", str(path), "--json"), 4)["code"] == "output_exists"
    assert path.read_bytes() == written
    shown = backup("restore", replaced, "--into", "-", "--from-sequence", "2", "--to-sequence", "4")
    assert shown.stdout_bytes == written
    packed = answer(backup("restore", replaced, "--into", f"{path}.gz", "--type", "*", "--json"))
    assert packed["events"] == 5
    assert backup("restore", replaced, "--into", "-", "--subject", "none", "--source", "none").stdout == ""
    assert backup("restore", replaced, "--into", "-", "--to", "2020-01-01").stdout == ""
    assert events(service) == 4
    assert list(tmp_path.glob("**/.lost*")) == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--at", "2020-01-01", "--into", "-"), 3), (("none.tar.gz", "--into", "present", "--yes"), 3),
        (("none.tar.gz", "--into", "present"), 3), (("--at", "2020-01-01", "--into", "present", "--json"), 3),
        (("--at", "#2", "--into", "none/x"), 5), (("--at", "#2", "--into", ""), 5),
        (("--at", "#2", "--into", "present"), 5), (("--at", "#2", "--into", "present", "--json"), 5),
        (("--at", "#2", "--into", "present", "--yes", "--type", "order.*"), 2),
        (("--at", "#2", "--into", "-", "--detach"), 2), (("--at", "#2", "--into", "-", "--dry-run"), 2),
        (("--at", "#2", "--into", "present", "--yes", "--apply", "restart"), 2),
        (("--at", "#2", "--yes", "--type", "a"), 2), (("--into", "-"), 2),
        (("--at", "#2", "--into", "-", "--from-sequence", "0"), 2),
    ],
)  # fmt: skip
def test_a_restore_into_something_that_cannot_be_done_changes_nothing(
    backup: Backup, service: StoreService, arguments: tuple[str, ...], status: int
) -> None:
    done = backup("restore", *arguments)
    assert done.exit_code == status, done.output
    assert events(service) == 3
    if "the nearest moment" in done.stderr:
        assert done.stderr.endswith(" --into -\n")


def test_undo_brings_back_what_a_restore_replaced(
    backup: Backup, archive: str, service: StoreService, somebody: None
) -> None:
    service.restore(archive)
    service.append(drafts(1, "since"))
    listed = backup("undo", "--list").stdout.splitlines()
    assert [word for word in listed[0].split() if not word.startswith("(")] == ["LEFT", "EVENTS", "SIZE", "BY", "NAME"]
    assert listed[1].split()[-1].startswith("previous-")
    assert f"restore of {archive}" in listed[1]

    done = backup("undo", input="y\n")

    assert done.exit_code == 0, done.output
    assert "comes back  5 events" in done.output
    assert "As it was: 5 events" in done.output
    assert "1 event posted since is set aside" in done.output
    assert events(service) == 5
    (previous,) = answer(backup("undo", "--list", "--json"))["undo"]
    assert previous["events"] == 4
    assert re.search(r" undo +previous-", backup("undo", "--list").stdout)


def test_undo_names_the_moment_of_the_restore_that_it_takes_back(
    backup: Backup, service: StoreService, somebody: None
) -> None:
    service.append(drafts(1, "later"))
    reached = service.restore_moment(Moment(sequence=2)).moment
    assert reached is not None
    moment = text.Times(utc=True).second(reached.time or 0)
    listed = backup("undo", "--list", "--utc").stdout.splitlines()
    assert f"  restore to {moment}  previous-" in listed[1]
    assert f", by the restore to {moment}\n" in backup("undo", "--utc", input="n\n").stderr
    (previous,) = answer(backup("undo", "--list", "--json"))["undo"]
    assert previous["moment"] == {"sequence": 2, "time": clock.format_microseconds(reached.time or 0)}


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
    first, second = several.stdout.splitlines()
    assert first == "1 is good. 1 is damaged:"
    assert re.fullmatch(rf"  {damaged.name}  at byte [0-9,]+: the root is wrong: .*", second)
    mend = f"every moment is still reached without it; remove it: flask backup delete {damaged.name}"
    assert several.stderr == f"verifying\nHINT: {mend}\n"
    (failure,) = answer(backup("verify", "--all", "--json"), 8)["failed"]
    assert (failure["name"], failure["hint"]) == (damaged.name, mend)
    Path(damaged.path).write_bytes(b"\x1f\x8b damaged")
    incomplete = backup("verify", archive, damaged.name)
    assert incomplete.stdout == f"1 is good. 1 is not good:\n  {damaged.name}  it ends after 10 bytes\n"
    assert f"HINT: {damaged.name}: wait until the copy is complete" in incomplete.stderr
    assert backup("verify", damaged.name).exit_code == 5
    assert backup("verify").exit_code == 2
    assert backup("verify", archive, "--all").exit_code == 2


def test_verify_shows_one_progress_for_all(
    backup: Backup, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [service.create_backup(label).backup.size for label in ("one", "two", "three")]
    monkeypatch.setattr(watching, "LINE_SECONDS", 0.0)
    done = backup("verify", "--all")
    assert done.stdout == "3 backups: all are good.\n"
    begun, *lines = done.stderr.splitlines()
    assert begun == "verifying"
    shown = [re.match(r"verifying: +([0-9]+)%, ([123]) of 3, (.+) of ([^,]+), ", f"{line}, ") for line in lines]
    found = [each for each in shown if each is not None]
    assert len(found) == len(lines)
    assert [int(each[1]) for each in found] == sorted(int(each[1]) for each in found)
    assert [each[2] for each in found] == sorted(each[2] for each in found)
    assert {each[2] for each in found} == {"1", "2", "3"}
    assert {each[4] for each in found} == {text.size(sum(sizes))}
    assert (found[-1][1], found[-1][3]) == ("100", text.size(sum(sizes)))


def test_what_a_damaged_backup_alone_can_bring_back_is_not_to_be_removed(
    backup: Backup, archive: str, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = service.create_backup("second").backup
    flip(Path(damaged.path), -200)
    plan = {**service.plan_deletion(damaged.name), "lost": [{"generation": "0123456789abcdef"}]}
    monkeypatch.setattr(service, "plan_deletion", lambda name: plan)
    assert "restore another one" in answer(backup("verify", "--all", "--json"), 8)["failed"][0]["hint"]


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


def upload(backup: Backup, archive: str, service: StoreService, folder: Path) -> Path:
    """Copy the archive out, and remove it from the backups."""
    copy = folder / archive
    shutil.copy(service.backup_path(archive), copy)
    service.create_backup("another")
    service.delete_backup(archive)
    return copy


def test_an_upload_is_checked_and_taken_in(
    backup: Backup, archive: str, service: StoreService, settings: Settings, tmp_path: Path
) -> None:
    copy = upload(backup, archive, service, tmp_path)

    done = backup("upload", str(copy))

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{archive} was taken in: 3 events, ")
    assert service.backup_entry(archive).origin == "uploaded"
    assert answer(backup("upload", str(copy), "--json"), 4)["code"] == "backup_exists"
    named = answer(backup("upload", "-", "--name", "again.tar.gz", "--json", input=copy.read_bytes()))
    assert named["backup"]["name"] == "again.tar.gz"
    assert backup("upload", "-").exit_code == 2
    assert backup("upload", str(tmp_path / "gone.tar.gz")).exit_code == 5
    assert backup("upload", str(copy), "--name", "../up.tar.gz").exit_code == 5
    assert [path.name for path in settings.backup_dir.iterdir() if "upload" in path.name] == []


def test_an_upload_that_is_damaged_leaves_nothing(
    backup: Backup, archive: str, service: StoreService, settings: Settings, tmp_path: Path
) -> None:
    copy = upload(backup, archive, service, tmp_path)
    flip(copy, -200)
    before = sorted(path.name for path in settings.backup_dir.iterdir())
    assert answer(backup("upload", str(copy), "--json"), 5)["code"].startswith("archive_")
    assert sorted(path.name for path in settings.backup_dir.iterdir()) == before


@pytest.fixture
def rotating(settings: Settings, settings_with: Callable[..., Settings]) -> Iterator[tuple[StoreService, list[str]]]:
    """A store and the names of its backups, oldest first: no rule keeps the first one, and the second one is pinned."""
    with running_service(settings) as service:
        names = [service.create_backup(label).backup.name for label in ("first", "second", "third")]
        service.pin_backup(names[1], pinned=True, reason="audit")
    with running_service(settings_with({"MAX_BACKUPS": "1"})) as service:
        yield service, names


def test_a_prune_shows_which_rule_keeps_a_backup_and_removes_the_others(
    settings: Settings, rotating: tuple[StoreService, list[str]]
) -> None:
    service, (first, second, third) = rotating
    prune = partial(in_process(settings, service), "backup", "prune")

    shown = prune("--dry-run", "--utc").stdout.splitlines()

    assert shown[0].split() == ["KEEP", "MADE", "(UTC)", "RULE", "NAME"]
    assert [line.split()[0] for line in shown[1:4]] == ["yes", "yes", "no"]
    assert [line.split()[-1] for line in shown[1:4]] == [third, second, first]
    assert 'pinned: "audit"' in shown[2]
    assert shown[5].startswith("1 goes, ")
    only = prune("--dry-run", "--only-removed").stdout
    assert (first in only, second in only, third in only) == (True, False, False)
    assert answer(prune("--dry-run", "--json"))["plan"]["remove"][0]["name"] == first
    assert len(service.list_backups()) == 3

    done = prune("--yes")

    assert done.stdout.startswith(f"{first}\n1 backup removed, ")
    assert [entry.name for entry in service.list_backups()] == [third, second]
    assert prune("--yes").stdout == "Nothing was removed: a rule keeps each backup.\n"
    assert "Nothing goes: a rule keeps each backup." in prune("--dry-run").stdout
    assert "Nothing goes: a rule keeps each backup." in prune().stdout
    assert answer(prune("--json"))["removed"] == []


def test_a_prune_asks(settings: Settings, rotating: tuple[StoreService, list[str]], somebody: None) -> None:
    service, names = rotating
    prune = partial(in_process(settings, service), "backup", "prune")
    assert prune(input="n\n").exit_code == 1
    assert len(service.list_backups()) == 3
    assert "Remove 1 backup for good?" in prune(input="y\n").stderr
    assert [entry.name for entry in service.list_backups()] == names[:0:-1]
    assert "Nothing goes" in prune().stdout


def test_timeline_draws_the_events_and_the_backups(
    backup: Backup, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars, marks, times = backup("timeline").stdout.splitlines()[1:4]
    assert (max(bars), marks.count("●"), marks[-8:]) == ("█", 2, "● backup")
    assert (len(marks.split("  ")[0]), times.split()[-1]) == (72, "now")
    monkeypatch.setattr(text, "sign", lambda _, plain: plain)
    plain = backup("timeline").stdout.splitlines()
    highest = plain[1].index("#")
    assert [line[highest] for line in plain[1:9]] == ["#"] * 8
    assert plain[9].endswith("  o backup")
    of_none = answer(backup("timeline", "--type", "none", "--since", "2 h ago", "--json"))
    assert sum(of_none["histogram"]["counts"]) == 0


def test_timeline_tells_what_can_be_restored_where_no_event_can_be_read(
    backup: Backup, archive: str, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise DatabaseDamaged("the database is damaged", hint="restore")

    monkeypatch.setattr(service, "histogram", fail)
    lines = backup("timeline").stdout.splitlines()
    assert lines[0] == "The events cannot be counted now: the database is damaged"
    assert lines[2].startswith("GENERATION")
    assert answer(backup("timeline", "--json"))["histogram"]["code"] == "database_damaged"


def test_an_operation_is_named_by_the_beginning_of_its_id(
    backup: Backup, service: StoreService, settings: Settings
) -> None:
    operations = partial(in_process(settings, service), "operations")
    assert operations().stdout == "No operation.\n"
    operation = backup("create", "--detach").stdout.strip()
    assert operations("watch", operation[:6]).stdout.startswith(f"create {operation} succeeded, ")
    header, line = operations().stdout.splitlines()
    assert header.split()[:7] == ["ID", "KIND", "STATE", "PROGRESS", "SPEED", "LEFT", "BY"]
    assert line.split()[:4] == [operation, "create", "succeeded", "100%"]
    assert operations("--json").stdout == operations("list", "--json").stdout
    assert operations("cancel", operation[:6]).exit_code == 4
    assert operations("watch", "zz").exit_code == 3
    backup("create")
    assert operations("cancel", "").exit_code == 5


@pytest.mark.parametrize(
    "arguments", [("restore", "NAME"), ("undo",), ("delete", "NAME"), ("restore", "NAME", "--json")]
)
def test_where_nobody_can_answer_nothing_is_done(backup: Backup, archive: str, arguments: tuple[str, ...]) -> None:
    assert backup("restore", archive, "--yes").exit_code == 0
    done = backup(*(archive if each == "NAME" else each for each in arguments))
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


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("restore", "--at", "2020-01-01"), 3),
        (("restore", "backup_2020-01-01_000000.tar.gz"), 3),
        (("undo", "previous-1"), 3),
        (("delete", "backup_2020-01-01_000000.tar.gz"), 3),
        (("restore", "--at", "#1"), 5),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_what_is_not_there_is_said_before_anybody_would_be_asked(
    backup: Backup, archive: str, arguments: tuple[str, ...], status: int, form: tuple[str, ...]
) -> None:
    done = backup(*arguments, *form)
    assert done.exit_code == status, done.output
