"""One tree of commands under two names: the table, the entry points, help, and options that hold for all of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import click
import pytest

from app.cli.command_table import COMMANDS, CommandEntry, Noun
from app.cli.commands import command
from app.cli.group import Deferred
from eventvault import __version__
from eventvault.exit_statuses import STATUSES
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process
from tests.service import PROJECT

HEAVY = {
    "apprise", "apscheduler", "confluent_kafka", "flask", "gunicorn", "jsonschema_rs", "marshmallow",
    "prometheus_client", "requests", "rich", "werkzeug",
}  # fmt: skip


def entries() -> Iterator[tuple[str, CommandEntry]]:
    for name, each in COMMANDS.items():
        if isinstance(each, Noun):
            yield from ((f"{name} {verb}", entry) for verb, entry in each.verbs.items())
        else:
            yield name, each


def test_the_entry_points_are_those_of_the_table() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["flask.commands"] == {name: f"app.cli.commands:{name}" for name in COMMANDS}
    assert project["scripts"] == {"eventvault": "app.cli:main"}


@pytest.mark.parametrize(("name", "entry"), [pytest.param(*each, id=each[0]) for each in entries()])
def test_each_command_of_the_table_is_there_and_says_what_it_does(name: str, entry: CommandEntry) -> None:
    loaded = Deferred(name, entry.where, entry.summary).load()
    assert loaded.name == name.split()[-1]
    assert entry.summary.endswith((".", ")"))
    assert (loaded.help or "").strip()
    context = loaded.make_context(name, [], resilient_parsing=True)
    assert context.help_option_names == ["-h", "--help"], "click keeps what the first context in a process has"


def test_an_entry_point_of_another_version_stops_no_command() -> None:
    from app.cli import commands

    missing = commands.of_another_version
    with pytest.raises(click.UsageError, match="this version has no command of_another_version"):
        missing.main(["list"], standalone_mode=False)


def help_of(*words: str, settings: Settings, store: MemoryStore, called: str = "flask") -> str:
    done = in_process(settings, store, called=called)(*words, "--help")
    assert done.exit_code == 0, done.output
    return done.stdout


def test_help_names_the_commands_as_they_were_called(settings: Settings, store: MemoryStore) -> None:
    shown = help_of(settings=settings, store=store, called="eventvault")
    assert shown.startswith("Usage: eventvault [OPTIONS] COMMAND [ARGS]...\n")
    assert '  eventvault backup restore --at "2 min ago"  shows what would happen, then asks\n' in shown
    assert shown.index("On a bad day:") < shown.index("Commands:") < shown.index("Options:")
    for name, each in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(each.summary)}$", shown, re.MULTILINE), name
    assert help_of("backup", settings=settings, store=store).startswith("Usage: flask backup [OPTIONS] COMMAND")


def test_the_help_of_a_group_has_all_its_commands(settings: Settings, store: MemoryStore) -> None:
    shown = help_of("backup", settings=settings, store=store)
    backup = COMMANDS["backup"]
    assert isinstance(backup, Noun)
    for verb, entry in backup.verbs.items():
        assert (f"{verb} " in shown and entry.summary in shown) or entry.hidden, verb


def test_h_is_help_everywhere(settings: Settings, store: MemoryStore) -> None:
    run = in_process(settings, store)
    for words in ([], ["backup"], ["backup", "list"], ["operations", "watch"], ["completion"]):
        assert "Usage: flask" in run(*words, "-h").stdout


def test_the_version_is_shown(settings: Settings, store: MemoryStore) -> None:
    assert in_process(settings, store)("--version").stdout == f"EventVault {__version__}\n"


@pytest.mark.parametrize(
    "words", [("--json", "backup", "list"), ("backup", "--json", "list"), ("backup", "list", "--json")]
)
def test_json_may_stand_before_the_command(words: tuple[str, ...], settings: Settings, store: MemoryStore) -> None:
    assert json.loads(in_process(settings, store)(*words).stdout)["backups"] == []
    wrong = in_process(settings, store)(*words, "--what")
    assert (wrong.exit_code, json.loads(wrong.stdout)["code"]) == (2, "invalid")


@pytest.mark.parametrize("words", [("--utc", "operations"), ("operations", "--utc"), ("operations", "list", "--utc")])
def test_utc_may_stand_before_the_command(
    words: tuple[str, ...], settings: Settings, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_backup()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert "SINCE (UTC)" in in_process(settings, store)(*words).stdout


def test_hints_name_the_program_that_was_called(settings: Settings, store: MemoryStore) -> None:
    for called in ("flask", "eventvault"):
        run = in_process(settings, store, called=called)
        assert run("backup", "list").stdout == f"There is no backup. Make one: {called} backup create\n"
        assert f"HINT: {called} backup list shows the names" in run("backup", "show", "a.tar.gz").stderr
        assert f"HINT: `{called} backup undo --list` lists them" in run("backup", "undo", "x", "--yes").stderr


@pytest.mark.slow
@pytest.mark.parametrize("called", ["flask", "eventvault"])
def test_no_help_names_a_program_that_was_not_called(called: str, settings: Settings, store: MemoryStore) -> None:
    other = "flask" if called == "eventvault" else "eventvault"
    for name, _ in entries():
        shown = help_of(*name.split(), settings=settings, store=store, called=called)
        named = re.findall(rf"\b{other} (?:{'|'.join(COMMANDS)})\b", shown)
        assert named == ([] if name != "completion" or called == "eventvault" else ["eventvault completion"] * 3), name
    restore = " ".join(help_of("backup", "restore", settings=settings, store=store, called=called).split())
    assert f"What is left behind is kept: `{called} backup undo`." in restore


def test_help_has_the_exit_statuses_and_the_help_of_commands(settings: Settings, store: MemoryStore) -> None:
    run = in_process(settings, store, called="eventvault")
    lines = run("help", "exits").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(status) for status in STATUSES]
    assert run("help", "backup", "restore").stdout == run("backup", "restore", "--help").stdout
    assert run("help").stdout == run("--help").stdout
    assert run("help", "backup", "nothing").exit_code == 2
    assert run("help", "nothing").exit_code == 2


def leaves(one: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield each command below one, with its words."""
    if isinstance(one, Deferred):
        one = one.load()
    if not isinstance(one, click.Group):
        yield " ".join(words), one
        return
    for name, each in one.commands.items():
        yield from leaves(each, (*words, name))


def test_every_command_takes_json() -> None:
    found = {name: each for noun in COMMANDS for name, each in leaves(command(noun), (noun,))}
    assert len(found) > 40
    assert [name for name, each in found.items() if all("--json" not in option.opts for option in each.params)] == []


def test_help_and_the_script_of_completion_are_objects_with_json(settings: Settings, store: MemoryStore) -> None:
    run = in_process(settings, store, called="eventvault")
    statuses = json.loads(run("help", "exits", "--json").stdout)["exits"]
    assert statuses[0] == {"status": 0, "name": STATUSES[0][0], "meaning": STATUSES[0][1]}
    shown = json.loads(run("help", "backup", "list", "--json").stdout)
    assert (shown["success"], shown["help"]) == (True, run("help", "backup", "list").stdout.removesuffix("\n"))
    script = json.loads(run("completion", "bash", "--json").stdout)["script"]
    assert run("completion", "bash").stdout.removesuffix("\n") == script
    wrong = run("--json", "help", "nothing")
    assert (wrong.exit_code, json.loads(wrong.stdout)["code"]) == (2, "invalid")


def test_the_page_has_the_exit_statuses() -> None:
    page = (PROJECT / "docs" / "command-line.md").read_text()
    for status, (name, meaning) in STATUSES.items():
        assert f"| {status} | {name} | {meaning} |" in page


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "backup --help", "backup list --help", "backup restore --help"])
def test_help_loads_nothing_that_it_does_not_need(words: str) -> None:
    program = (
        "import sys; from app.cli.root import root\n"
        f"root().main({words.split()}, standalone_mode=False)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    assert HEAVY & set(done.stderr.split()) == set()


def test_a_deferred_command_completes_as_the_real_one() -> None:
    group = command("backup")
    context = group.make_context("backup", [], resilient_parsing=True)
    assert "list" in [item.value for item in group.shell_complete(context, "li")]
