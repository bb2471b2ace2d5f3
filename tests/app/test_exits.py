"""Exit statuses of commands: the table has every error, and an error is printed with a hint."""

from __future__ import annotations

import json

import pytest

from app.cli import exits
from eventvault import errors


def test_the_table_has_every_error_of_the_core() -> None:
    assert set(exits.EXIT_STATUSES) == {error.code for error in errors._tree(errors.EventVaultError)}
    assert not {0, 2} & set(exits.EXIT_STATUSES.values())


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_is_printed_and_ends_the_command(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    with pytest.raises(SystemExit) as ended:
        exits.exit_with_error(errors.NoSpace("the disk is full", hint="make room"), as_json=as_json)
    out, err = capsys.readouterr()

    assert ended.value.code == exits.NO_SPACE
    if as_json:
        assert json.loads(out) == {
            "success": False,
            "code": "no_space",
            "error": "the disk is full",
            "hint": "make room",
        }
    else:
        assert (out, err) == ("", "the disk is full\nHINT: make room\n")
