"""`flask backup create`."""

from __future__ import annotations

from typing import Any

import click

from app.backup.answers import created_json
from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.options import detach_option, json_option, print_begun
from app.cli.watching import run_operation


@click.command("create")
@click.argument("label", required=False)
@detach_option
@json_option
def create(*, label: str | None, detach: bool, as_json: bool) -> None:
    """Back up now, with a LABEL if you like. Posts and reads go on meanwhile."""
    store = current_store()
    if detach:
        print_begun(lambda: store.create_backup(label), as_json=as_json)
        return
    exits.run_and_print(
        lambda: created_json(run_operation(store, "Backing up", lambda: store.create_backup(label), quiet=as_json)),
        _describe_created,
        as_json=as_json,
    )


def _describe_created(created: dict[str, Any]) -> str:
    what = f"{text.counted(created['events'] or 0, 'event')}, {text.size(created['size'])}"
    return f"{created['name']}\n  {what}, read back and good, in {text.seconds(created['durationMs'] / 1000)}"
