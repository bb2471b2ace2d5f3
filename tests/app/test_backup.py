"""`/api/backup`: the guide's examples, and every other operation on archives."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.backup.answers import megabytes
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore

FORM = "application/x-www-form-urlencoded"
PART = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def names(web: FlaskClient) -> list[str]:
    return [backup["name"] for backup in web.get("/api/backup/list").json["backups"]]


def left_over(settings: Settings) -> list[str]:
    return [path.name for path in settings.backup_dir.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "content_type", "label"),
    [
        (None, None, None),
        (b"", "application/json", None),
        (b"{}", "application/json", None),
        (b'{"label":"manual-backup"}', "application/json", "manual-backup"),
        (b'{"label":"migration-export"}', FORM, "migration-export"),
        (b'{"label":"migration-export"}', None, "migration-export"),
        (b'{"label":null}', "application/json", None),
        (b'{"label":""}', "application/json", ""),
        ('{"label":"grün"}'.encode(), "application/json; charset=utf-8", "grün"),
    ],
)
def test_create_accepts_json_under_any_content_type(
    web: FlaskClient, body: bytes | None, content_type: str | None, label: str | None
) -> None:
    answer = web.post("/api/backup/create", data=body, content_type=content_type)

    assert answer.status_code == 200
    assert list(answer.json)[:3] == ["success", "backupPath", "size"]
    assert answer.json["success"] is True
    assert Path(answer.json["backupPath"]).name == answer.json["name"]
    assert Path(answer.json["backupPath"]).stat().st_size == answer.json["size"]
    assert answer.json["label"] == label
    assert {"events", "sequence", "digest", "sha256", "durationMs"} <= set(answer.json)
    assert answer.json["digest"].startswith("blake3:")
    assert answer.json["sha256"] is None
    assert answer.json["addedBytes"] + answer.json["sharedBytes"] == answer.json["size"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"label":5}', "application/json", 422),
        (b'{"label":["x"]}', "application/json", 422),
        (b'{"lable":"x"}', "application/json", 422),
        (b'{"label":"%s"}' % (b"x" * 1001), "application/json", 422),
        (b'{"label":"x","label":"y"}', "application/json", 422),
        (b'{"label":"x","\\u006cabel":"y"}', FORM, 422),
        (b'{"label":"\\ud800"}', "application/json", 422),
        (b"label=x", FORM, 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"x"', "application/json", 400),
        (b'{"label":"\xfc"}', "application/json", 400),
        (b"{}", "application/xml", 415),
    ],
)
def test_create_refuses_other_bodies(
    web: FlaskClient, store: MemoryStore, body: bytes, content_type: str, status: int
) -> None:
    answer = web.post("/api/backup/create", data=body, content_type=content_type)

    assert answer.status_code == status
    assert answer.json["success"] is False
    assert store.list_backups() == []


def test_the_list_has_the_members_of_the_guide_and_our_own(web: FlaskClient, backup: str) -> None:
    answer = web.get("/api/backup/list")

    (entry,) = answer.json["backups"]
    assert list(entry)[:5] == ["name", "path", "size", "sizeMB", "created"]
    assert entry["sizeMB"] == megabytes(entry["size"])
    assert (entry["addedBytes"], entry["sharedBytes"], entry["uniqueBytes"]) == (entry["size"], 0, entry["size"])
    assert INSTANT.fullmatch(entry["created"])
    assert INSTANT.fullmatch(entry["verified"])
    assert (entry["events"], entry["sequence"], entry["pinned"]) == (1, 1, False)
    assert (entry["encrypted"], entry["offsite"], entry["label"]) == (False, False, None)


@pytest.mark.parametrize(("size", "text"), [(0, "0.00"), (12345, "0.01"), (2**20, "1.00"), (1_610_612_736, "1536.00")])
def test_megabytes_have_two_decimals(size: int, text: str) -> None:
    assert megabytes(size) == text


def test_the_newest_backup_comes_first(web: FlaskClient) -> None:
    made = [web.post("/api/backup/create", json={"label": str(number)}).json["name"] for number in range(3)]
    assert names(web) == made[::-1]


@pytest.mark.slow
def test_the_exported_metadata_sums_up_the_backups(web: FlaskClient) -> None:
    empty = web.get("/api/backup/export-metadata").json["metadata"]
    assert empty == {"backupCount": 0, "totalSize": 0, "oldestBackup": None, "newestBackup": None, "backups": []}

    for label in ("a", "b"):
        web.post("/api/backup/create", json={"label": label})
    metadata = web.get("/api/backup/export-metadata").json["metadata"]
    created = [backup["created"] for backup in metadata["backups"]]
    assert metadata["backupCount"] == 2
    assert metadata["totalSize"] == sum(backup["size"] for backup in metadata["backups"])
    assert [metadata["newestBackup"], metadata["oldestBackup"]] == created


@pytest.mark.slow
@pytest.mark.parametrize("content_type", ["application/json", FORM, None])
def test_a_restore_applies_at_once(web: FlaskClient, backup: str, content_type: str | None) -> None:
    web.post("/api/events", json={"type": "a", "id": "later"})
    answer = web.post("/api/backup/restore", data=f'{{"backupName":"{backup}"}}', content_type=content_type)

    assert answer.status_code == 200
    assert answer.json["success"] is True
    assert answer.json["message"]
    assert answer.json["restartRequired"] is False
    assert answer.json["restartCommand"] is None
    assert answer.json["checked"] == "digests"
    assert web.get("/api/events/later").status_code == 404


def test_a_staged_restore_answers_with_the_guides_words(web: FlaskClient, store: MemoryStore, backup: str) -> None:
    answer = web.post("/api/backup/restore", json={"backupName": backup, "apply": "restart"})

    assert list(answer.json)[:2] == ["success", "message"]
    assert answer.json["message"] == "Restore complete. Restart application to apply changes."
    assert answer.json["restartCommand"] == "docker-compose restart app worker"
    assert answer.json["restartRequired"] is True
    assert store.state.staged is not None
    assert store.state.staged.source == backup
    assert web.get("/api/health").json["jobs"]["restore"]["staged"]["source"] == backup


@pytest.mark.parametrize(
    "name", ["../x.tar.gz", "/etc/passwd", "a/b.tar.gz", "..", ".", "", ".hidden.tar.gz", "a\\b", "a\x00b", "x" * 300]
)
def test_a_name_that_is_a_path_is_invalid_and_never_reaches_the_store(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(store, "restore", lambda *_, **__: pytest.fail("the store was asked"))
    answer = web.post("/api/backup/restore", json={"backupName": name})
    assert (answer.status_code, set(answer.json["fields"])) == (422, {"backupName"})


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"backupName": 5}, 422), ({"backupName": "none.tar.gz"}, 404), ({"backupName": "a", "apply": 1}, 422)],
)
def test_an_invalid_body_of_a_restore_is_refused(web: FlaskClient, body: dict[str, Any], status: int) -> None:
    assert web.post("/api/backup/restore", json=body).status_code == status


@pytest.mark.slow
def test_a_backup_is_shown_with_its_manifest(web: FlaskClient, backup: str) -> None:
    answer = web.get(f"/api/backup/{backup}")
    assert answer.json["backup"]["name"] == backup
    assert answer.json["manifest"]["events"] == 1


def test_a_download_is_the_archive(web: FlaskClient, backup: str, archive: bytes) -> None:
    answer = web.get(f"/api/backup/{backup}/download", buffered=True)

    assert answer.data == archive
    assert answer.mimetype == "application/gzip"
    assert backup in answer.headers["Content-Disposition"]
    assert int(answer.headers["Content-Length"]) == len(archive)
    head = web.head(f"/api/backup/{backup}/download", buffered=True)
    assert (head.data, head.headers["Content-Length"]) == (b"", str(len(archive)))


@pytest.mark.parametrize(("wanted", "start", "end"), [("0-9", 0, 10), ("5-", 5, None), ("-7", -7, None)])
def test_a_range_request_gets_only_that_range(
    web: FlaskClient, backup: str, archive: bytes, wanted: str, start: int, end: int | None
) -> None:
    answer = web.get(f"/api/backup/{backup}/download", buffered=True, headers={"Range": f"bytes={wanted}"})
    assert (answer.status_code, answer.data) == (206, archive[start:end])
    assert answer.headers["Content-Range"].endswith(f"/{len(archive)}")


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_download_needs_no_file_system_with_locks(
    refusal: int, web: FlaskClient, backup: str, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_file: object, _how: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(fcntl, "flock", flock)

    assert web.get(f"/api/backup/{backup}/download", buffered=True).data == archive


@pytest.mark.slow
def test_a_download_has_the_sha_256_once_it_is_known(web: FlaskClient, backup: str, archive: bytes) -> None:
    path = f"/api/backup/{backup}/download"
    before = web.head(path, buffered=True)
    assert "Repr-Digest" not in before.headers

    web.post(f"/api/backup/{backup}/verify?records=true")

    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(archive).digest()).decode()}:"
    for ask in (web.head, web.get):
        for headers in ({}, {"Range": "bytes=5-9"}):
            answer = ask(path, buffered=True, headers=headers)
            assert (answer.headers["Repr-Digest"], answer.headers["ETag"]) == (digest, before.headers["ETag"])


def test_ranges_obey_their_conditions(web: FlaskClient, backup: str, archive: bytes) -> None:
    path = f"/api/backup/{backup}/download"
    tag = web.head(path, buffered=True).headers["ETag"]
    assert tag.strip('"') == web.get("/api/backup/list").json["backups"][0]["digest"]
    assert web.get(path, buffered=True, headers={"Range": "bytes=0-1", "If-Range": tag}).data == archive[:2]
    assert web.get(path, buffered=True, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).data == archive
    assert web.get(path, buffered=True, headers={"Range": "bytes=0-1,4-5"}).data == archive
    assert web.get(path, buffered=True, headers={"If-None-Match": tag}).status_code == 304
    for ignored in ("lines=1-2", "bytes=5-2", "bytes=-", "bytes=a-b", "bytes", "bytes=+1-2"):
        answer = web.get(path, buffered=True, headers={"Range": ignored})
        assert (answer.status_code, answer.data) == (200, archive), ignored
    beyond = web.get(path, buffered=True, headers={"Range": f"bytes={len(archive)}-"})
    assert (beyond.status_code, beyond.json["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{len(archive)}"


def test_an_archive_is_locked_while_it_is_being_sent(web: FlaskClient, backup: str, settings: Settings) -> None:
    def locked() -> bool:
        with (settings.backup_dir / backup).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    answer = web.get(f"/api/backup/{backup}/download", buffered=False)
    assert locked()
    answer.close()
    assert not locked()


@pytest.mark.slow
def test_an_upload_is_listed(web: FlaskClient, archive: bytes, settings: Settings) -> None:
    answer = web.post("/api/backup/upload?name=mine.tar.gz", data=archive, content_type="application/gzip")

    assert (answer.status_code, answer.json["backup"]["origin"]) == (201, "uploaded")
    assert "mine.tar.gz" in names(web)
    assert (settings.backup_dir / "mine.tar.gz").read_bytes() == archive
    assert left_over(settings) == []


@pytest.mark.slow
@pytest.mark.parametrize("query", ["", "?name=other.tar.gz"])
def test_a_form_with_a_file_is_an_upload_too(web: FlaskClient, archive: bytes, settings: Settings, query: str) -> None:
    import io

    form = {"note": "hello", "file": (io.BytesIO(archive), "mine.tar.gz"), "z": (io.BytesIO(b"zz"), "z.tar.gz")}
    answer = web.post(f"/api/backup/upload{query}", data=form, content_type="multipart/form-data")

    name = "other.tar.gz" if query else "mine.tar.gz"
    assert (answer.status_code, answer.json["backup"]["name"]) == (201, name)
    assert (settings.backup_dir / name).read_bytes() == archive
    assert left_over(settings) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        r"C:\fakepath\up.tar.gz",
        r"C:\\fakepath\\up.tar.gz",  # with escaped backslashes, as curl sends them
        r"\\server\share\two words\up.tar.gz",
        r"D:up\..\up.tar.gz",
        r"C:/Users/me/up.tar.gz",
        r"/home/me/back\"ups\"/up.tar.gz",
        "../up.tar.gz",
    ],
)
def test_of_a_path_the_last_part_names_the_upload(
    web: FlaskClient, archive: bytes, settings: Settings, path: str
) -> None:
    body = PART % f'file"; filename="{path}'.encode() + archive + b"\r\n--x--\r\n"
    answer = web.post("/api/backup/upload", data=body, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, answer.json["backup"]["name"]) == (201, "up.tar.gz")
    assert (settings.backup_dir / "up.tar.gz").read_bytes() == archive


@pytest.mark.slow
@pytest.mark.parametrize("path", ["C:\\folder/", "C:\\up.zip", "/"])
def test_a_path_without_an_archives_name_is_refused(web: FlaskClient, settings: Settings, path: str) -> None:
    body = PART % f'file"; filename="{path}'.encode() + b"abc\r\n--x--\r\n"
    answer = web.post("/api/backup/upload", data=body, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, list(settings.backup_dir.iterdir())) == (422, [])


def test_uploads_are_not_bounded_by_the_largest_body(web: FlaskClient, settings: Settings) -> None:
    answer = web.post("/api/backup/upload?name=a.tar.gz", data=b"\0" * 5 * settings.max_body_bytes)
    assert (answer.status_code, answer.json["code"]) == (422, "archive_damaged")
    assert left_over(settings) == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("?name=", 422),
        ("?name=../a.tar.gz", 422),
        ("?name=a.zip", 422),
        ("?name=.a.tar.gz", 422),
        ("?name=a.tar.gz.age", 422),
        ("?name=a.tgz", 422),
        ("?name=a%0Ab.tar.gz", 422),
        (f"?name={'a' * 250}.tar.gz", 422),
    ],
)
def test_an_upload_needs_a_name_and_without_one_its_body_is_not_read(
    web: FlaskClient, settings: Settings, query: str, status: int
) -> None:
    body = io.BytesIO(b"x" * 100)
    answer = web.post(f"/api/backup/upload{query}", input_stream=body, content_length=100)
    assert body.tell() == 0
    assert (answer.status_code, set(answer.json["fields"])) == (status, {"name"})
    assert list(settings.backup_dir.iterdir()) == []


def test_an_upload_never_replaces_a_backup(web: FlaskClient, backup: str, archive: bytes, settings: Settings) -> None:
    answer = web.post(f"/api/backup/upload?name={backup}", data=b"other")
    assert (answer.status_code, answer.json["code"]) == (409, "backup_exists")
    assert (settings.backup_dir / backup).read_bytes() == archive


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/gzip"),
        (b"no form at all", "multipart/form-data; boundary=x"),
        (b"no form at all", "multipart/form-data"),
        (PART % b'file"; filename="a.tar.gz' + b"abc", "multipart/form-data; boundary=x"),
        (PART % b"other" + b"abc\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    ],
)  # fmt: skip
def test_a_broken_upload_leaves_no_file(web: FlaskClient, settings: Settings, body: bytes, content_type: str) -> None:
    answer = web.post("/api/backup/upload?name=a.tar.gz", data=body, content_type=content_type)
    assert (answer.status_code, answer.json["code"]) == (400, "malformed")
    assert list(settings.backup_dir.iterdir()) == []


def test_a_full_disk_during_an_upload_is_reported_and_leaves_no_file(
    web: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("app.backup.upload.os.fsync", full)
    answer = web.post("/api/backup/upload?name=a.tar.gz", data=b"x")
    assert (answer.status_code, answer.json["code"]) == (507, "no_space")
    assert list(settings.backup_dir.iterdir()) == []


def test_the_last_good_backup_is_deleted_only_with_force(web: FlaskClient, backup: str) -> None:
    refused = web.delete(f"/api/backup/{backup}")
    assert (refused.status_code, refused.json["code"]) == (409, "backup_protected")
    assert web.delete(f"/api/backup/{backup}?force=nonsense").status_code == 422

    answer = web.delete(f"/api/backup/{backup}?force=true")
    assert answer.json == {"success": True, "name": backup}
    assert names(web) == []
    assert web.delete(f"/api/backup/{backup}").status_code == 404


@pytest.mark.slow
def test_a_pinned_backup_is_not_deleted(web: FlaskClient, backup: str) -> None:
    web.post("/api/backup/create")
    assert web.put(f"/api/backup/{backup}/pin").json["backup"]["pinned"] is True
    assert web.delete(f"/api/backup/{backup}").status_code == 409
    assert web.delete(f"/api/backup/{backup}/pin").json["backup"]["pinned"] is False
    assert web.delete(f"/api/backup/{backup}").status_code == 200


@pytest.mark.slow
def test_a_pin_may_have_a_reason_and_an_end(web: FlaskClient, backup: str) -> None:
    pin = {"reason": "audit 2026", "until": "2999-01-31T00:00:00.000Z"}
    asked = {"reason": "audit 2026", "until": "2999-01-31T01:00:00+01:00"}
    assert web.put(f"/api/backup/{backup}/pin", json=asked).json["backup"]["pin"] == pin
    (listed,) = web.get("/api/backup/list").json["backups"]
    assert (listed["pinned"], listed["pin"]) == (True, pin)
    assert web.get("/api/health").json["backup"]["latest"]["pin"] == pin
    again = web.put(f"/api/backup/{backup}/pin", data=b'{"reason": null}', content_type="text/plain")
    assert again.json["backup"]["pin"] == {"reason": None, "until": None}
    assert web.delete(f"/api/backup/{backup}/pin").json["backup"]["pin"] is None


@pytest.mark.parametrize(
    "asked",
    [
        {"reason": 7},
        {"reason": "x" * 1001},
        {"until": "2020-01-01T00:00:00Z"},
        {"until": "2999-01-31"},
        {"until": "tomorrow"},
        {"until": 4102444800},
        {"untill": "2999-01-31T00:00:00Z"},
    ],
)
def test_a_pin_that_cannot_be_is_refused_with_the_member_that_is_wrong(
    web: FlaskClient, backup: str, asked: dict[str, Any]
) -> None:
    answer = web.put(f"/api/backup/{backup}/pin", json=asked)
    assert (answer.status_code, list(answer.json["fields"])) == (422, list(asked))
    assert web.get("/api/backup/list").json["backups"][0]["pin"] is None


@pytest.mark.slow
def test_a_backup_is_verified_on_request(web: FlaskClient, backup: str) -> None:
    answer = web.post(f"/api/backup/{backup}/verify")
    assert (answer.status_code, answer.json["backup"]["name"], answer.json["success"]) == (200, backup, True)
    assert answer.json["backup"]["verified"].endswith("Z")
    assert answer.json["backup"]["checked"] == "digests"
    by_records = web.post(f"/api/backup/{backup}/verify?records=true&async=false")
    assert (by_records.status_code, by_records.json["backup"]["checked"]) == (200, "records")
    assert web.post(f"/api/backup/{backup}/verify?records=maybe").status_code == 422
    assert web.post("/api/backup/backup_2020-01-01_000000.tar.gz/verify").status_code == 404


def test_a_damaged_backup_is_reported_and_marked(web: FlaskClient, backup: str) -> None:
    path = Path(web.get(f"/api/backup/{backup}").json["backup"]["path"])
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    answer = web.post(f"/api/backup/{backup}/verify")
    assert (answer.status_code, answer.json["code"]) == (422, "archive_damaged")
    assert web.get("/api/backup/list").json["backups"][0]["problem"] == answer.json["error"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["{}", "{}/download", "{}/pin"])
@pytest.mark.parametrize("name", [".hidden.tar.gz", "a%5Cb.tar.gz", "a%00.tar.gz"])
def test_a_name_in_an_address_must_not_be_a_path_either(web: FlaskClient, path: str, name: str) -> None:
    method = "PUT" if path.endswith("pin") else "GET"
    assert web.open(f"/api/backup/{path.format(name)}", method=method).status_code == 422


def test_a_restore_is_undone(web: FlaskClient, backup: str) -> None:
    web.post("/api/events", json={"type": "a", "id": "lost"})
    restored = web.post("/api/backup/restore", json={"backupName": backup}).json
    web.post("/api/events", json={"type": "a", "id": "since", "data": 1})
    (kept,) = web.get("/api/backup/undo").json["undo"]
    assert restored["undo"]["name"] == kept["name"]
    assert (kept["events"], kept["source"]) == (2, backup)

    undone = web.post("/api/backup/undo")

    assert undone.status_code == 200
    assert undone.json["backupName"] == kept["name"]
    assert undone.json["events"] == 2
    behind = undone.json["leftBehind"]
    assert (behind["count"], behind["first"]["id"], behind["last"]["id"]) == (1, "since", "since")
    assert "data" not in behind["first"]
    assert web.post("/api/backup/undo", json={"name": undone.json["undo"]["name"]}).json["events"] == 2


def test_an_undo_without_a_restore_is_a_conflict_with_a_hint(web: FlaskClient) -> None:
    answer = web.post("/api/backup/undo")

    assert (answer.status_code, answer.json["code"]) == (409, "nothing_to_undo")
    assert answer.json["hint"]
    assert web.get("/api/backup/undo").json == {"success": True, "undo": []}


@pytest.mark.slow
def test_an_undo_of_an_unknown_previous_database_is_not_found(web: FlaskClient, backup: str) -> None:
    web.post("/api/backup/restore", json={"backupName": backup})

    answer = web.post("/api/backup/undo", json={"name": "../event_registry_db"})

    assert (answer.status_code, answer.json["code"]) == (404, "undo_not_found")


@pytest.mark.parametrize("body", [{"name": 1}, {"other": "x"}])
def test_an_undo_refuses_unknown_members_in_its_body(web: FlaskClient, body: dict[str, Any]) -> None:
    assert web.post("/api/backup/undo", json=body).status_code == 422


def lost_events(web: FlaskClient) -> str:
    """The generation with three events that a restore of an empty registry superseded."""
    name = web.post("/api/backup/create").json["name"]
    events = [{"type": "a", "id": "1"}, {"type": "b", "id": "2", "subject": "s"}, {"type": "a", "id": "3"}]
    web.post("/api/events", json=events)
    web.post("/api/backup/restore", json={"backupName": name})
    generation: str = web.get("/api/backup/undo").json["undo"][0]["generation"]
    return generation


def lines_of(answer: TestResponse) -> list[dict[str, Any]]:
    assert (answer.status_code, answer.content_type) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.data.splitlines()]


@pytest.mark.slow
def test_two_moments_are_compared(web: FlaskClient) -> None:
    left = lost_events(web)
    web.post("/api/events", json={"type": "a", "id": "4"})

    *lines, summary = lines_of(web.get(f"/api/backup/diff?from={left}@&to=now"))

    assert [(line["in"], line["event"]["id"]) for line in lines] == [
        ("from", "1"), ("from", "2"), ("from", "3"), ("to", "4"),
    ]  # fmt: skip
    assert (summary["in"], summary["onlyInFrom"], summary["onlyInTo"], summary["different"]) == ("summary", 3, 1, 0)
    assert summary["from"] == {"generation": left, "sequence": 3}
    name = web.get("/api/backup/list").json["backups"][0]["name"]
    assert lines_of(web.get(f"/api/backup/diff?from={name}"))[-1]["from"] == {"generation": left, "sequence": 0}
    assert len(lines_of(web.get(f"/api/backup/diff?from={left}@2"))) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("from=yesterday", 422),
        ("from=1&to=2500-01-01T00:00:00Z", 422),
        ("from=99", 422),
        ("from=0123456789abcdef@1", 422),
        ("from=never.tar.gz", 404),
        ("from=1&other=2", 422),
    ],
)
def test_comparing_an_unknown_moment_is_refused(web: FlaskClient, backup: str, query: str, status: int) -> None:
    assert web.get(f"/api/backup/diff?{query}").status_code == status


def test_selected_past_events_are_copied_to_the_present(web: FlaskClient) -> None:
    left = lost_events(web)
    asked = {"into": "present", "generation": left, "filter": {"type": "a", "fromSequence": 2}}

    first, again = (web.post("/api/backup/restore", json=asked).json for _ in range(2))

    assert (first["matched"], first["appended"], first["alreadyThere"], first["renamed"]) == (1, 1, 0, 0)
    assert (again["appended"], again["alreadyThere"], again["lastSequence"]) == (0, 1, 1)
    assert [each["id"] for each in web.get("/api/events").json["events"]] == ["3"]


@pytest.mark.slow
def test_events_posted_again_after_a_restore_are_not_copied_twice(web: FlaskClient) -> None:
    left = lost_events(web)
    web.post("/api/events", json={"type": "a", "id": "3"})

    asked = {"into": "present", "generation": left, "filter": {"fromSequence": 3}}
    taken = web.post("/api/backup/restore", json=asked).json

    assert (taken["appended"], taken["alreadyThere"], taken["renamed"]) == (0, 1, 0)
    assert lines_of(web.get(f"/api/backup/diff?from={left}@"))[-1]["different"] == 0


def test_selected_past_events_are_exported(web: FlaskClient, backup: str) -> None:
    web.post("/api/events", json={"type": "b", "id": "2"})
    now = web.get("/api/events").json["events"][-1]["recordedtime"]
    for moment in ({"backupName": backup}, {"sequence": 1}, {"pointInTime": now}):
        found = lines_of(web.post("/api/backup/restore", json={"into": "export", "filter": {"type": "a"}, **moment}))
        assert [each["id"] for each in found] == ["kept"], moment


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"into": "nowhere", "sequence": 1},
        {"into": "present"},
        {"into": "present", "sequence": 1, "backupName": "a.tar.gz"},
        {"into": "present", "backupName": "a.tar.gz", "generation": "0123456789abcdef"},
        {"into": "present", "sequence": -1},
        {"into": "present", "generation": "moment-0123456789abcdef"},
        {"into": "export", "sequence": 1, "generation": "moment-0123456789abcdef"},
        {"into": "present", "sequence": 1, "filter": {"colour": "red"}},
        {"into": "present", "sequence": 1, "filter": {"from": "yesterday"}},
        {"into": "export", "sequence": 99},
        {"into": "export", "pointInTime": "2500-01-01T00:00:00Z"},
    ],
)
def test_an_invalid_selective_restore_is_refused(web: FlaskClient, backup: str, asked: dict[str, Any]) -> None:
    answer = web.post("/api/backup/restore", json=asked)

    assert answer.status_code == 422
    assert answer.json["hint"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../a.tar.gz", "holds a path"),
        ("a%0A.tar.gz", "holds control characters"),
        ("x" * 300 + ".tar.gz", "is longer than 255 bytes"),
        (".a.tar.gz", "begins with a dot"),
        ("a.TAR.GZ", "does not end in .tar.gz"),
    ],
)
def test_the_refusal_of_an_uploads_name_says_why_and_what_to_do(web: FlaskClient, name: str, why: str) -> None:
    answer = web.post(f"/api/backup/upload?name={name}", data=b"x")
    assert answer.status_code == 422
    (reason,) = answer.json["fields"]["name"]
    assert why in reason
    assert "ends in .tar.gz" in answer.json["hint"]
    assert "list" not in answer.json["hint"], "the name of a backup that is there would be refused too"


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b"no form at all",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.tar.gz"\r\n\r\ncut off',
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="\xff.tar.gz"\r\n\r\n-\r\n--x--\r\n',
        b"--x\r\nX: " + b"y" * 5_000_000,
    ],
)
def test_a_form_that_cannot_be_read_is_refused_in_words_for_users(web: FlaskClient, body: bytes) -> None:
    answer = web.post("/api/backup/upload", data=body, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, answer.json["code"]) == (400, "malformed")
    assert answer.json["error"].startswith("the form cannot be read: ")
    assert "curl -F file=@" in answer.json["hint"]
    assert not any(word in answer.json["error"] for word in ("codec", "State", "capacity"))


@pytest.mark.parametrize("path", ["create", "restore", "undo"])
def test_advice_about_a_body_that_is_no_object_fits_each_request(web: FlaskClient, path: str) -> None:
    answer = web.post(f"/api/backup/{path}", data=b"[]", content_type="application/json")
    assert answer.status_code == 400
    assert "label" not in answer.json["hint"]
