"""`/api/notify/test` and `flask notify test`."""

from __future__ import annotations

from functools import partial

import orjson
import pytest
from flask.testing import FlaskClient

from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process

TAKES, REFUSES = "mailto://…@example.org", "ntfy://…"


@pytest.fixture
def receivers(store: MemoryStore) -> dict[str, str | None]:
    store.notifications.receivers = {TAKES: None, REFUSES: "403 Forbidden"}
    return store.notifications.receivers


def test_each_address_is_answered_for(web: FlaskClient, receivers: dict[str, str | None]) -> None:
    answer = web.post("/api/notify/test")
    assert (answer.status_code, answer.json["success"]) == (200, True)
    assert answer.json["deliveries"] == [
        {"address": TAKES, "delivered": True, "seconds": 0.0, "problem": None},
        {"address": REFUSES, "delivered": False, "seconds": 0.0, "problem": "403 Forbidden"},
    ]


@pytest.mark.slow
def test_where_nobody_is_to_be_notified_that_is_said(web: FlaskClient) -> None:
    answer = web.post("/api/notify/test")
    assert (answer.status_code, answer.json["code"]) == (409, "notify_not_configured")
    assert "NOTIFY_URLS" in answer.json["error"]
    assert web.post("/api/notify/test?now=1").status_code == 422
    assert web.get("/api/notify/test").status_code == 405


def test_the_command_shows_each_address_and_exits_8_if_one_refuses(
    settings: Settings, store: MemoryStore, receivers: dict[str, str | None]
) -> None:
    notify = partial(in_process(settings, store), "notify", "test")
    done = notify()
    assert done.output.splitlines() == [
        "mailto://…@example.org  delivered in 0.0 s",
        "ntfy://…                refused: 403 Forbidden",
    ]
    assert done.exit_code == 8
    as_json = notify("--json")
    assert orjson.loads(as_json.stdout)["deliveries"][1]["problem"] == "403 Forbidden"
    assert as_json.exit_code == 8
    receivers[REFUSES] = None
    assert notify().exit_code == 0


def test_the_command_without_addresses_is_an_invalid_setting(settings: Settings, store: MemoryStore) -> None:
    done = in_process(settings, store)("notify", "test", "--json")
    assert (done.exit_code, orjson.loads(done.stdout)["code"]) == (78, "notify_not_configured")
