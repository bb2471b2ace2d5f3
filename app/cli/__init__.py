"""The command line, `eventvault …` and `flask …`: a folder for each larger group, a module for each small one.

It builds no application: `app.cli.command_table` names the commands, and each is imported once it is called. A command
asks the running store, or starts one without Kafka, scheduler and automatic restore. It never starts a service. It
reaches the store and the settings through `app.cli.connection` alone. With `--json`, standard output holds one JSON
object and nothing else, errors included.
"""

from __future__ import annotations

import sys

from eventvault.exit_statuses import INTERRUPTED


def main() -> None:
    """Run the command line as `eventvault`."""
    try:
        from app.cli.root import root

        root().main(prog_name="eventvault")
    except KeyboardInterrupt:  # before or after the command
        sys.exit(INTERRUPTED)
