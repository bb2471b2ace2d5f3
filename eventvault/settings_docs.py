"""Writes `docs/settings.md` and `.env.example` from the one declaration of the settings.

`make docs` runs it; a test fails when the two files are not what it would write.
"""

from __future__ import annotations

from pathlib import Path

from eventvault.files import write_durably
from eventvault.settings import DECLARATIONS, PROJECT, Declaration

_PAGE = """\
# Settings

Every setting is an environment variable. `make run`, gunicorn, the store process, `python -m worker`, the command line
and the tests read the same ones. A blank one counts as unset. Booleans are true/false, 1/0, yes/no or on/off, in any
case.

All are checked before anything starts. What is not allowed is named, all of it at once, and nothing starts: the
message gives the setting, its value and what is allowed, and the exit status is 78.

```sh
make run PORT=8080 WEB_CONCURRENCY=4                   # for one run
set -a; . ./.env; set +a; make run                     # from a file: copy .env.example to .env
```

This page is made from the declaration of the settings in `eventvault/settings.py` (`make docs`).

| setting | default | allowed | meaning |
|---|---|---|---|
"""

_SAMPLE = """\
# Every setting of EventVault with its default. Copy this file to .env, change what should differ, and load it before
# a start with: set -a; . ./.env; set +a
# Made by `make docs`; docs/settings.md says the same as a table.
"""


def page() -> str:
    """The content of `docs/settings.md`."""
    return _PAGE + "".join(_row(declaration) for declaration in DECLARATIONS)


def sample() -> str:
    """The content of `.env.example`: every setting, commented out, with its default."""
    return _SAMPLE + "".join(
        f"\n# {setting.meaning}\n# Allowed: {setting.kind.allowed}.\n# {setting.name}={setting.default}\n"
        for setting in DECLARATIONS
    )


def write(project: Path = PROJECT) -> None:
    """Write both files beneath `project`."""
    write_durably(project / "docs" / "settings.md", page().encode())
    write_durably(project / ".env.example", sample().encode())


def _row(declaration: Declaration) -> str:
    default = f"`{declaration.default}`" if declaration.default else "unset"
    cells = (f"`{declaration.name}`", default, declaration.kind.allowed, declaration.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    write()
