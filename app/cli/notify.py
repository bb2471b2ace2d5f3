"""`flask notify`: tests whether a message reaches the people in NOTIFY_URLS."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import click
import msgspec

from app.cli import exits
from app.cli.connection import current_store
from app.cli.group import Group
from app.store_retry import retry_while_store_is_away
from eventvault.exit_statuses import PARTLY

group = Group("notify", help="Notifications.")

_STATUS = re.compile(r"(?:\berror=|^)([45][0-9]{2})\b")
"""The HTTP status in Apprise's text about a receiver that refuses the message."""


@group.command("test")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also for errors.")
def test(*, as_json: bool) -> None:
    """Send a test notification to each address of NOTIFY_URLS; exit 8 if one does not take it."""
    sent: dict[str, Any] = {}

    def send() -> dict[str, Any]:
        deliveries = retry_while_store_is_away(lambda: current_store().send_test_notification())
        sent.update(deliveries=msgspec.to_builtins(deliveries))
        return sent

    exits.run_and_print(send, _describe, as_json=as_json)
    if not all(delivery["delivered"] for delivery in sent["deliveries"]):
        sys.exit(PARTLY)


def _describe(sent: dict[str, Any]) -> str:
    width = max(len(delivery["address"]) for delivery in sent["deliveries"])
    return "\n".join(f"{delivery['address']:{width}}  {_outcome(delivery)}" for delivery in sent["deliveries"])


def _outcome(delivery: dict[str, Any]) -> str:
    if delivery["delivered"]:
        return f"delivered in {delivery['seconds']:.1f} s"
    refused = _STATUS.search(delivery["problem"])
    if refused is None:
        return f"not delivered: {delivery['problem']}"
    with suppress(ValueError):
        return f"refused: {refused[1]} {HTTPStatus(int(refused[1])).phrase}"
    return f"refused: {refused[1]}"
