"""The problems of the files of tokens, for health."""

from __future__ import annotations

from eventvault.access.configured import ConfiguredTokens
from eventvault.access.token_file import FileCondition
from eventvault.access.token_files import TokenFiles
from eventvault.errors import InvalidSettings
from eventvault.problems import Problem
from eventvault.settings import Settings

_ENTER = "`flask tokens create admin --scope admin` makes a token that is valid"
_CODES = {
    FileCondition.DAMAGED: "tokens_damaged",
    FileCondition.FOREIGN: "tokens_foreign",
    FileCondition.ABSENT: "tokens_gone",
    FileCondition.NEWER: "tokens_too_new",
    FileCondition.UNREADABLE: "tokens_unreadable",
}
_HINTS = {
    FileCondition.DAMAGED: f"a good copy takes its place; without one, {_ENTER}",
    FileCondition.FOREIGN: f"correct BACKUP_DIR if it is the wrong one; {_ENTER}, `flask tokens disable` opens the "
    "service, and `flask backup recover --with-tokens` uses the tokens in BACKUP_DIR",
    FileCondition.ABSENT: f"bring a copy back; else {_ENTER}, and `flask tokens disable` opens the service",
    FileCondition.NEWER: "use the version that wrote it",
    FileCondition.UNREADABLE: "let the user of the service read it",
}


def token_problems(settings: Settings) -> list[Problem]:
    """Return the problems of the files of tokens. Reads three small files and never raises."""
    doubts = TokenFiles(settings).read().doubts
    problems = [Problem(_CODES[doubt.condition], doubt.message, _HINTS[doubt.condition]) for doubt in doubts]
    try:
        ConfiguredTokens(settings).read()
    except InvalidSettings as error:
        problems.append(Problem("tokens_file_invalid", error.message, error.hint))
    return problems
