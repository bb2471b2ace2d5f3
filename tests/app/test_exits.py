"""Exit statuses of commands: the table has every error, and an error is printed with a hint."""

from __future__ import annotations

import errno
import json

import pytest

from app.cli import exits
from eventvault import errors, exit_statuses


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_is_printed_and_ends_the_command(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    with pytest.raises(SystemExit) as ended:
        exits.exit_with_error(errors.NoSpace("the disk is full", hint="make room"), as_json=as_json)
    out, err = capsys.readouterr()

    assert ended.value.code == exit_statuses.NO_SPACE
    if as_json:
        assert json.loads(out) == {
            "success": False,
            "code": "no_space",
            "error": "the disk is full",
            "hint": "make room",
        }
    else:
        assert (out, err) == ("", "the disk is full\nHINT: make room\n")


def test_a_terminal_shows_why_a_field_is_not_valid(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"expires": ["Allowed: a span."], "0": {"type": ["Too\x1blong."]}}
    error = errors.InvalidInput("it is not valid", hint="`fields` says what is allowed", fields=fields)
    with pytest.raises(SystemExit):
        exits.exit_with_error(error, as_json=False)
    shown = capsys.readouterr().err
    assert shown.splitlines()[:2] == ["it is not valid", "  expires: Allowed: a span."]
    assert shown.splitlines()[3] == "HINT: the lines above say what is allowed"
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("see it; GET /api/backup/timeline shows them all", "see it; `flask backup timeline` shows them all"),
        ("delete it with force=true", "delete it with --force"),
        ("GET /api/operations/<id> shows it", "GET /api/operations/<id> shows it"),
        ('POST /api/backup/restore {"sequence": 3} brings', 'POST /api/backup/restore {"sequence": 3} brings'),
        ("make room", "make room"),
    ],
)
def test_a_hint_names_commands(hint: str, shown: str) -> None:
    assert exits.in_commands(hint) == shown


def test_json_has_nothing_that_controls_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    label = "a\x1b[31m\x9b31m\u202eb\u2066\u2028\x7f é ⚑ \U0001f600"
    exits.print_result({"label": label}, str, as_json=True)
    shown = capsys.readouterr().out
    assert json.loads(shown)["label"] == label
    assert all(character.isprintable() for character in shown.rstrip("\n"))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.EDQUOT, "x"), exit_statuses.NO_SPACE, "no_space"),
        (OSError(errno.ENFILE, "x"), exit_statuses.TRY_AGAIN, "too_busy"),
        (OSError(errno.EROFS, "x", "/mnt/block-storage/LOCK"), exit_statuses.TRY_AGAIN, "disk_failed"),
        (MemoryError(), exit_statuses.TRY_AGAIN, "too_busy"),
    ],
)
def test_what_the_system_says_ends_a_command_without_a_traceback(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, code: str
) -> None:
    def fail() -> dict[str, object]:
        raise error

    with pytest.raises(SystemExit) as ended:
        exits.run_and_print(fail, str, as_json=True)
    assert (ended.value.code, json.loads(capsys.readouterr().out)["code"]) == (status, code)
