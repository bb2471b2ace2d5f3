from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.audit.deeds import Deeds, deeds_through
from eventvault.audit.lines import MAX_BYTES, AuditEntry, encode_line, entry_now
from eventvault.audit.waiting import WaitingEntries
from eventvault.errors import Cancelled, NoSpace, OperationCancelled, StoreStopping, StoreUnavailable


def noting() -> tuple[Deeds, list[AuditEntry]]:
    entries: list[AuditEntry] = []
    return Deeds(entries.append), entries


def test_a_deed_is_begun_before_it_is_done_and_ends_with_its_result() -> None:
    deeds, entries = noting()
    with deeds.doing("restore", "cron", "a.tar.gz", operation="0" * 16, details={"staged": True}) as deed:
        assert [entry.state for entry in entries] == ["begun"]
        deed.results = {"events": 3}
    begun, ended = entries
    assert (begun.operation, begun.who, begun.action, begun.target) == ("0" * 16, "cron", "restore", "a.tar.gz")
    assert (begun.result, begun.details) == (None, {"staged": True})
    assert (ended.operation, ended.state, ended.result, ended.details) == ("0" * 16, "ended", "done", {"events": 3})


@pytest.mark.parametrize(
    ("error", "result", "code"),
    [
        (NoSpace("sent by a client"), "failed", "no_space"),
        (OperationCancelled("sent by a client"), "cancelled", "operation_cancelled"),
        (Cancelled("sent by a client"), "interrupted", "cancelled"),
        (StoreStopping("sent by a client"), "interrupted", "store_stopping"),
        (PermissionError(13, "sent by a client"), "failed", "disk_failed"),
        (ValueError("sent by a client"), "failed", "internal_error"),
    ],
)
def test_an_error_is_the_result_by_its_code(error: Exception, result: str, code: str) -> None:
    deeds, entries = noting()
    with pytest.raises(type(error)), deeds.doing("delete", "open"):
        raise error
    assert (entries[1].result, entries[1].details["code"]) == (result, code)
    assert "sent by a client" not in str(entries[1])


def test_tries_that_end_alike_are_written_once() -> None:
    deeds, entries = noting()

    def attempt(error: Exception | None) -> None:
        with deeds.trying("recover", "start", None, "0" * 16, {}, is_repeated=True):
            if error is not None:
                raise error

    for error in (NoSpace("full"), NoSpace("full"), PermissionError(13, "denied"), PermissionError(13, "denied")):
        with pytest.raises(type(error)):
            attempt(error)
    attempt(None)
    assert [(entry.state, entry.result, entry.details.get("code")) for entry in entries] == [
        ("begun", None, None),
        ("ended", "failed", "no_space"),
        ("ended", "failed", "disk_failed"),
        ("ended", "done", None),
    ]


def test_an_entry_waits_in_storage_where_no_store_answers(tmp_path: Path) -> None:
    def away(entry: AuditEntry) -> None:
        raise StoreUnavailable("no store")

    with deeds_through(away, tmp_path).doing("trust", "shell", "a key"):
        pass
    waiting, _ = WaitingEntries(tmp_path / "audit_waiting.jsonl").read()
    assert [(entry.action, entry.state) for entry in waiting] == [("trust", "begun"), ("trust", "ended")]


def test_no_disk_at_all_stops_no_deed(tmp_path: Path) -> None:
    def away(entry: AuditEntry) -> None:
        raise StoreUnavailable("no store")

    done: list[Callable[[], object]] = []
    with deeds_through(away, tmp_path / "missing").doing("trust", "shell", "a key"):
        done.append(len)
    assert done


@pytest.mark.parametrize("text", ["\ud800", "a\nb", "\u202e", "\x1b[31m", "x" * 5000, "ä"])
def test_any_text_makes_one_line(text: str) -> None:
    raw = encode_line(
        entry_now(operation="", state="noted", action="a", who=text, target=text, details={"t": text}), 1, ""
    )
    assert raw.count(b"\n") == 1
    assert b"\x1b" not in raw


def test_details_without_end_are_not_written() -> None:
    made = entry_now(operation="", state="noted", action="a", who="a", details={"names": ["x" * 100] * MAX_BYTES})
    assert len(encode_line(made, 1, "")) < 1000
