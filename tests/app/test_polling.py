"""Pages that ask again and again: pages of the list, ETags, compression, and answers that are shared."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.backup.answers import backup_json
from app.backup.schemas import BackupSchema
from eventvault.operations.entry import OperationQuery
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore

GZIP = {"Accept-Encoding": "gzip"}
POLLED = ["/api/health", "/api/backup/list", "/api/backup/list?limit=2"]


@pytest.fixture
def made(web: FlaskClient) -> list[str]:
    """The names of seven backups, newest first."""
    return [web.post("/api/backup/create", json={"label": f"n{number}"}).json["name"] for number in range(7)][::-1]


def names(answer: Any) -> list[str]:
    return [backup["name"] for backup in answer.json["backups"]]


@pytest.mark.slow
def test_the_list_is_read_page_by_page(web: FlaskClient, made: list[str]) -> None:
    read, address = [], "/api/backup/list?limit=3"
    while True:
        page = web.get(address)
        read.append(names(page))
        if page.json["next"] is None:
            break
        address = f"/api/backup/list?limit=3&before={page.json['next']}"

    assert read == [made[:3], made[3:6], made[6:]]


@pytest.mark.slow
def test_the_plain_list_has_all_of_them(web: FlaskClient, made: list[str]) -> None:
    answer = web.get("/api/backup/list")
    assert (names(answer), answer.json["next"]) == (made, None)
    assert names(web.get(f"/api/backup/list?before={made[4]}")) == made[5:]
    assert web.get(f"/api/backup/list?limit=2&before={made[-1]}").json["backups"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=-1", "limit"), ("limit=1001", "limit"), ("limit=ten", "limit"),
        ("limit=99999999999999999999999", "limit"), ("before=backup_2000-01-01_000000.tar.gz", "before"),
        ("before=", "before"), ("before=../x.tar.gz", "before"), ("after=x", "after"), ("limit=1&limit=2", "limit"),
    ],
)  # fmt: skip
def test_a_page_that_cannot_be_is_refused(web: FlaskClient, query: str, field: str) -> None:
    answer = web.get(f"/api/backup/list?{query}")

    assert (answer.status_code, answer.json["code"]) == (422, "invalid")
    assert field in answer.json["fields"]


def test_an_entry_has_the_members_of_its_schema(store: MemoryStore, made: list[str]) -> None:
    promised = {field.data_key or name for name, field in BackupSchema().fields.items()}
    assert backup_json(store.backup_entry(made[0])).keys() == promised


@pytest.mark.parametrize("address", POLLED)
@pytest.mark.parametrize("coding", [{}, GZIP], ids=["plain", "gzip"])
def test_an_unchanged_answer_is_not_sent_again(
    web: FlaskClient, made: list[str], address: str, coding: dict[str, str]
) -> None:
    first = web.get(address, headers=coding)
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"

    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = web.get(address, headers={**coding, "If-None-Match": given})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag), given
        assert again.headers["Cache-Control"] == "private, no-cache"
        assert "Accept-Encoding" in again.headers["Vary"]
    web.post("/api/backup/create")
    later = web.get(address, headers={**coding, "If-None-Match": tag})
    assert (later.status_code, later.headers["ETag"] != tag) == (200, True)


@pytest.mark.slow
@pytest.mark.parametrize("address", [*POLLED, "/api/settings", "/api/backup/timeline", "/openapi.json"])
def test_long_json_is_compressed_for_who_takes_it(web: FlaskClient, made: list[str], address: str) -> None:
    plain, packed = web.get(address), web.get(address, headers=GZIP)

    assert "Content-Encoding" not in plain.headers
    assert (packed.headers["Content-Encoding"], packed.headers["Content-Length"]) == ("gzip", str(len(packed.data)))
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert orjson.loads(gzip.decompress(packed.data)) == plain.json
    assert len(packed.data) < len(plain.data)
    assert packed.headers.get("ETag") is None or packed.headers["ETag"] != plain.headers["ETag"]
    head = web.head(address, headers=GZIP)
    assert (head.headers["Content-Encoding"], head.data) == ("gzip", b"")


def test_the_tag_of_one_coding_is_none_of_the_other(web: FlaskClient, made: list[str]) -> None:
    tag = web.get("/api/backup/list").headers["ETag"]
    answer = web.get("/api/backup/list", headers={**GZIP, "If-None-Match": tag})
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "gzip")


@pytest.mark.parametrize("coding", ["identity", "gzip;q=0", "br", "gzip;q=0, *;q=0", ""])
def test_who_does_not_take_gzip_gets_none(web: FlaskClient, made: list[str], coding: str) -> None:
    assert "Content-Encoding" not in web.get("/api/backup/list", headers={"Accept-Encoding": coding}).headers


def test_short_answers_errors_and_streams_are_sent_as_they_are(web: FlaskClient) -> None:
    web.post("/api/events", json={"type": "a", "data": "x" * 5000})
    for address in ("/api/health/live", "/api/backup/list", "/api/backup/none.tar.gz", "/api/events/export"):
        assert "Content-Encoding" not in web.get(address, headers=GZIP).headers, address


@pytest.fixture
def shared(settings: Settings, store: MemoryStore) -> Flask:
    """The application with answers that are shared for a minute."""
    return create_app(settings, store, shared_seconds=60.0)


def test_what_was_changed_is_seen_at_once(shared: Flask, store: MemoryStore) -> None:
    web = shared.test_client()

    def seen() -> tuple[int, int, int]:
        health: Any = web.get("/api/health").json
        return health["store"]["events"], health["backup"]["count"], len(web.get("/api/backup/list").json["backups"])

    assert seen() == (0, 0, 0)
    web.post("/api/events", json={"type": "a"})
    assert seen() == (1, 0, 0)
    name = web.post("/api/backup/create").json["name"]
    assert seen() == (1, 1, 1)
    web.put(f"/api/backup/{name}/pin")
    assert web.get("/api/backup/list").json["backups"][0]["pinned"] is True
    web.delete(f"/api/backup/{name}?force=true")
    assert seen() == (1, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["/api/operations", "/api/operations/{id}", "/api/operations/{id}/stream"])
def test_who_reads_that_an_operation_has_ended_finds_what_it_changed(
    shared: Flask, store: MemoryStore, address: str
) -> None:
    web = shared.test_client()

    def count() -> int:
        found: int = web.get("/api/health").json["backup"]["count"]
        return found

    assert count() == 0
    store.create_backup()  # without a request, as an operation ends after the answer that it was begun
    assert count() == 0
    (operation,) = store.list_operations(OperationQuery())
    assert web.get(address.format(id=operation.id)).status_code == 200
    assert count() == 1


@pytest.mark.slow
def test_all_who_ask_share_one_answer_of_the_store(
    shared: Flask, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, web, status, listed = [], shared.test_client(), store.status, store.list_backups
    monkeypatch.setattr(store, "status", lambda: asked.append("status") or status())
    monkeypatch.setattr(store, "list_backups", lambda **page: asked.append("list") or listed(**page))

    for _ in range(5):
        for address in ("/api/health", "/api/health/ready", "/metrics", "/api/backup/list", "/api/backup/list?limit=5"):
            assert web.get(address).status_code == 200
    assert sorted(asked) == ["list", "list", "status"]


def test_who_takes_an_older_answer_shares_it_although_events_are_posted(shared: Flask) -> None:
    web = shared.test_client()

    def seen(taken: str) -> tuple[int, int]:
        health: Any = web.get("/api/health", headers={"Cache-Control": taken}).json
        return health["store"]["events"], health["backup"]["count"]

    assert seen("max-age=1") == (0, 0)
    web.post("/api/events", json={"type": "a"})
    assert seen("max-age=1") == seen("no-transform, Max-Age=30") == (0, 0)
    strict = (
        "",
        "no-cache",
        "max-age=0",
        "max-age=00",
        "s-maxage=9",
        "max-age=",
        "max-age=-1",
        "max-age",
        "x-max-age=1",
    )
    for count, each in enumerate(strict, start=1):
        assert seen(each) == (count, 0), each
        web.post("/api/events", json={"type": "a"})
        assert seen("max-age=1") == (count, 0)
    web.post("/api/backup/create")
    assert seen("max-age=1") == (len(strict) + 1, 1), "what is no append is seen at once"


def test_events_are_counted_by_time_once_for_all_who_ask(
    shared: Flask, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, web, histogram = [], shared.test_client(), store.histogram
    monkeypatch.setattr(store, "histogram", lambda query: counted.append(query.buckets) or histogram(query))
    older = {"Cache-Control": "max-age=1"}

    for buckets in (4, 5, 4, 5):
        answer = web.get(f"/api/events/histogram?buckets={buckets}", headers=older)
        assert len(answer.json["counts"]) == buckets
        web.post("/api/events", json={"type": "a"})
    assert counted == [4, 5]
    again = web.get("/api/events/histogram?buckets=4", headers={**older, "If-None-Match": "*"})
    assert (again.status_code, counted) == (304, [4, 5])
    assert sum(web.get("/api/events/histogram?buckets=4").json["counts"]) == 4


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_deletion_can_be_tried(web: FlaskClient, made: list[str], method: str) -> None:
    query = {"GET": "dryRun=delete", "DELETE": "dryRun=true"}[method]
    answer = web.open(f"/api/backup/{made[0]}?{query}", method=method)

    assert (answer.status_code, answer.json["dryRun"], answer.json["name"]) == (200, True, made[0])
    assert {"freesBytes", "goodLeft", "window", "protectedBy"} <= answer.json["plan"].keys()
    assert answer.json["plan"]["goodLeft"] == 6
    assert names(web.get("/api/backup/list")) == made
    missing = web.open(f"/api/backup/backup_2000-01-01_000000.tar.gz?{query}", method=method)
    assert (missing.status_code, missing.json["code"]) == (404, "backup_not_found")


@pytest.mark.parametrize(("method", "query"), [("GET", "dryRun=true"), ("GET", "dryRun="), ("DELETE", "dryRun=delete")])
def test_what_cannot_be_tried_changes_nothing(web: FlaskClient, made: list[str], method: str, query: str) -> None:
    answer = web.open(f"/api/backup/{made[0]}?{query}", method=method)
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["dryRun"])
    assert names(web.get("/api/backup/list")) == made
