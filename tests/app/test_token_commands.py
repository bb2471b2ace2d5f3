"""`flask tokens`, in this process: what it prints where, and with which status it ends."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import Result

from eventvault import token_text
from eventvault.access.changes import TokenChanges
from eventvault.access.register import TokenRegister
from eventvault.settings import PROJECT, Settings, load
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process


@pytest.fixture
def run(settings: Settings, store: MemoryStore):  # type: ignore[no-untyped-def]
    def invoke(*arguments: str, text: str | None = None) -> Result:
        return in_process(settings, store)("tokens", *arguments, input=text)

    return invoke


def test_create_prints_the_token_alone_on_standard_output(run, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    done = run("create", "cron", "--scope", "backup", "--expires", "365d", "--utc")
    assert done.exit_code == 0
    assert token_text.is_whole(done.stdout.removesuffix("\n"))
    (token,) = TokenChanges(settings).list_tokens()
    assert done.stderr == (
        f"cron may create, verify, rehearse, list, download and pin backups until {token['expires'][:10]}.\n"
        "The service is closed from now on: each request needs a token. A download holds every event. "
        "This token is not shown again.\n"
    )
    second = run("create", "grafana", "--scope", "metrics")
    assert second.stderr == "grafana may read /metrics.\nThis token is not shown again.\n"


@pytest.mark.slow
def test_list_shows_each_token(run, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    assert "There is no token" in run("list").stdout
    made = TokenChanges(settings).create("cron", "backup+read", by="shell", expires="2099-11-28T12:00:00Z")
    done = run("list", "--utc")
    assert done.stdout.splitlines() == [
        "ID        NAME  SCOPE        EXPIRES     LAST USED  FROM",
        f"{made.token.id}  cron  read+backup  2099-11-28  never      shell",
    ]
    assert json.loads(run("list", "--json").stdout)["tokens"][0]["name"] == "cron"


def test_list_says_how_to_get_in_where_no_token_is_valid_any_more(run, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    changes = TokenChanges(settings)
    changes.revoke(changes.create("cron", "backup", by="shell").token.id, by="shell")
    assert "the service stays closed: flask tokens create admin" in run("list").stdout


def test_a_token_that_is_not_valid_is_refused_with_what_is_allowed(run) -> None:  # type: ignore[no-untyped-def]
    done = run("create", "cron", "--scope", "root", "--expires", "soon")
    assert "  scope: Allowed: read, write, backup" in done.stderr
    assert "  expires: Allowed: a span such as 12h" in done.stderr


def test_rotate_says_how_long_the_old_one_works(run, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    made = TokenChanges(settings).create("cron", "backup", by="shell")
    done = run("rotate", "cron")
    assert token_text.is_whole(done.stdout.removesuffix("\n"))
    assert done.stderr == (
        f"The old one works for another hour: flask tokens revoke {made.token.id} ends it now.\n"
        "This token is not shown again.\n"
    )
    done = run("rotate", "cron", "--now")
    assert "is revoked." in done.stderr
    assert len(TokenChanges(settings).list_tokens()) == 1


def test_revoke_ends_a_token(run, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    token_id = TokenChanges(settings).create("cron", "backup", by="shell").token.id
    done = run("revoke", token_id)
    assert done.stdout == (
        f"cron ({token_id}) is revoked: no request and no open stream of it is served from now on.\n"
    )
    assert run("revoke", token_id).exit_code == 0


def test_disable_asks_for_a_word(run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    changes = TokenChanges(settings)
    changes.create("cron", "backup", by="shell")
    done = run("disable")
    assert (done.exit_code, changes.is_closed()) == (5, True)
    assert "add --yes" in done.stderr
    monkeypatch.setattr("app.cli.options.can_ask", lambda: True)
    done = run("disable", text="yes\n")
    assert (done.exit_code, changes.is_closed()) == (1, True)
    done = run("disable", text="open\n")
    assert (done.exit_code, changes.is_closed()) == (0, False)
    assert "This opens EventVault to everybody who reaches 127.0.0.1:5050. 1 token is revoked." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("create", "cron", "--scope", "root"), 5, "invalid"),
        (("create", "a b", "--scope", "read"), 5, "invalid"),
        (("create", "cron", "--scope", "read", "--expires", "soon"), 5, "invalid"),
        (("create", "taken", "--scope", "read"), 4, "token_exists"),
        (("rotate", "nothing"), 3, "token_not_found"),
        (("revoke", "00000000"), 3, "token_not_found"),
        (("disable",), 5, "invalid"),
        (("create", "cron"), 2, "invalid"),
    ],
)
def test_what_fails_ends_with_the_status_of_its_code(  # type: ignore[no-untyped-def]
    run, settings: Settings, arguments: tuple[str, ...], status: int, code: str
) -> None:
    TokenChanges(settings).create("taken", "read", by="shell")
    done = run(*arguments, "--json")
    assert (done.exit_code, json.loads(done.stdout)["code"]) == (status, code)
    assert len(TokenChanges(settings).list_tokens()) == 1


def test_no_token_is_printed_where_it_could_not_be_written(run, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    settings.storage_dir.rmdir() if settings.storage_dir.exists() else None
    Path(settings.storage_dir).parent.mkdir(parents=True, exist_ok=True)
    settings.storage_dir.write_text("a file in its place")
    done = run("create", "cron", "--scope", "read")
    assert done.exit_code not in (0, 2)
    assert done.stdout == ""


@pytest.mark.slow
def test_the_page_shows_commands_that_work(run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("app.cli.options.can_ask", lambda: True)
    page = (PROJECT / "docs" / "access.md").read_text()
    lines = re.findall(r"^(?:    |\| `)flask tokens ([^`\n]*)", page, re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        known = TokenChanges(settings).list_tokens()
        done = run(*line.replace("4fQ2mZ8k", known[-1]["id"] if known else "").split(), text="open\n")
        assert done.exit_code == 0, (line, done.stderr)
    assert not TokenChanges(settings).is_closed(), "the last one opens the service"


def test_the_page_makes_a_token_for_the_environment(settings_environment: dict[str, str], tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "access.md").read_text()
    (script,) = re.findall(r"^    (token=.*\n    printf .*)$", page, re.MULTILINE)
    script = script.replace("\n    ", "\n") + '\nprintf %s "$token"'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    settings = load({**settings_environment, "API_TOKENS_FILE": str(tmp_path / "tokens")})
    assert TokenRegister(settings).credential_of(done.stdout).name == "ci"


def test_revoke_with_a_name_says_which_id_has_it(run, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    token_id = TokenChanges(settings).create("cron", "backup", by="shell").token.id
    done = run("revoke", "cron")
    assert done.exit_code == 3
    assert done.stderr == (
        "no token has the id cron, which is a name; nothing was changed\n"
        f"HINT: name the id: flask tokens revoke {token_id}\n"
    )
    assert "flask tokens list" in run("revoke", "another").stderr


@pytest.mark.parametrize("arguments", [("revoke", "ID"), ("rotate", "cron", "--now"), ("disable", "--yes")])
def test_a_revocation_that_backup_dir_does_not_have_yet_says_so(  # type: ignore[no-untyped-def]
    run, settings: Settings, arguments: tuple[str, ...]
) -> None:
    token_id = TokenChanges(settings).create("cron", "backup", by="shell").token.id
    shutil.rmtree(settings.backup_dir)
    settings.backup_dir.write_text("a file in its place")
    done = run(*(token_id if each == "ID" else each for each in arguments))
    assert done.exit_code == 0, done.output
    assert "The copy in BACKUP_DIR is not written yet: " in done.stderr
    assert "a recovery of a lost STORAGE_DIR makes what it revokes valid again" in done.stderr


def test_what_needs_no_question_is_said_where_nobody_can_be_asked(  # type: ignore[no-untyped-def]
    run, store: MemoryStore, settings_environment: dict[str, str]
) -> None:
    done = run("disable")
    assert (done.exit_code, done.stdout) == (0, "EventVault is open already: there is no token.\n")
    assert json.loads(run("disable", "--json").stdout) == {"success": True, "revoked": []}
    digest = "0" * 64
    closed = load({**settings_environment, "API_TOKENS": f"ci:read:sha256={digest}"})
    refused = in_process(closed, store)("tokens", "disable")
    assert (refused.exit_code, refused.stderr.startswith("API_TOKENS or API_TOKENS_FILE is set")) == (78, True)
