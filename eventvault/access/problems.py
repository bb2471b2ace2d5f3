"""What health says of the files of the tokens."""

from __future__ import annotations

from eventvault.access.configured import ConfiguredTokens
from eventvault.access.token_file import Condition
from eventvault.access.token_files import TokenFiles
from eventvault.errors import InvalidSettings
from eventvault.problems import Problem
from eventvault.settings import Settings

_ENTER = "`flask tokens create admin --scope admin` makes a token that is valid"
_CODES = {
    Condition.DAMAGED: "tokens_damaged",
    Condition.FOREIGN: "tokens_foreign",
    Condition.ABSENT: "tokens_gone",
    Condition.NEWER: "tokens_too_new",
    Condition.UNREADABLE: "tokens_unreadable",
}
_HINTS = {
    Condition.DAMAGED: f"a good copy takes its place; without one, {_ENTER}",
    Condition.FOREIGN: f"correct BACKUP_DIR if it is the wrong one; {_ENTER}, `flask tokens disable` opens the "
    "service, and `flask backup recover --with-tokens` takes the tokens in BACKUP_DIR",
    Condition.ABSENT: f"bring a copy back; else {_ENTER}, and `flask tokens disable` opens the service",
    Condition.NEWER: "use the version that wrote it",
    Condition.UNREADABLE: "let the user of the service read it",
}


def token_problems(settings: Settings) -> list[Problem]:
    """Return the problems of the files of the tokens. Reads three small files and never raises."""
    doubts = TokenFiles(settings).read().doubts
    problems = [Problem(_CODES[doubt.condition], doubt.message, _HINTS[doubt.condition]) for doubt in doubts]
    try:
        ConfiguredTokens(settings).read()
    except InvalidSettings as error:
        problems.append(Problem("tokens_file_invalid", error.message, error.hint))
    return problems
