"""Archives and lines over HTTP: continued where a connection broke off, whole or an error."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from app.cli.remote import lines, transport
from app.cli.remote.address import parse
from app.cli.remote.errors import RemoteError
from app.cli.remote.files import upload_request
from app.cli.remote.store import RemoteStore
from app.cli.remote.transport import Transport
from eventvault.database.values import ScanQuery
from eventvault.errors import ArchiveDamaged, BackupExists, EventVaultError, InvalidInput
from eventvault.past.values import DiffQuery, PastView
from tests.scripted_http import ScriptedServer, Send, answer, chunked, json_answer, scripted

CONTENT = bytes(range(256)) * 16
TAG = 'ETag: "blake3:abc"'
SHA256 = f"Repr-Digest: sha-256=:{base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}:"
GENERATION = "0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_PAUSES", (0.001,))


@contextmanager
def talking(*answers: bytes | Send) -> Iterator[tuple[RemoteStore, ScriptedServer]]:
    with scripted(*answers) as server:
        store = RemoteStore.over(Transport(parse(server.url, insecure=False), patience=0.05))
        yield store, server
        store.close()


def cut(status: str, piece: bytes, length: int, *headers: str) -> bytes:
    return answer(status, piece, *headers, length=length)


def rest(begin: int, end: int = len(CONTENT)) -> bytes:
    place = f"Content-Range: bytes {begin}-{end - 1}/{len(CONTENT)}"
    return answer("206 Partial Content", CONTENT[begin:end], TAG, place, length=len(CONTENT) - begin)


def copy(store: RemoteStore) -> bytes:
    with store.download("a.tar.gz") as source:
        return b"".join(iter(source.read, b""))


def test_a_copy_goes_on_where_the_connection_broke_off() -> None:
    with talking(cut("200 OK", CONTENT[:1000], len(CONTENT), TAG, SHA256), rest(1000, 1500), rest(1500)) as (
        store,
        server,
    ):
        assert copy(store) == CONTENT
    assert [asked.headers.get("range") for asked in server.requests] == [None, "bytes=1000-", "bytes=1500-"]
    assert server.requests[1].headers["if-range"] == '"blake3:abc"'


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([cut("200 OK", CONTENT[:9], len(CONTENT), TAG)], id="and nobody answers then"),
        pytest.param([cut("200 OK", CONTENT[:9], len(CONTENT))], id="of a file without a tag"),
        pytest.param([cut("200 OK", CONTENT[:9], len(CONTENT), 'ETag: W/"x"')], id="of a file with a weak tag"),
        pytest.param(
            [cut("200 OK", CONTENT[:9], len(CONTENT), TAG), answer("200 OK", CONTENT, TAG)], id="another file by now"
        ),
        pytest.param([cut("200 OK", CONTENT[:9], len(CONTENT), TAG), rest(8)], id="continued at another byte"),
        pytest.param(
            [
                cut("200 OK", CONTENT[:9], len(CONTENT), TAG),
                answer("206 Partial Content", CONTENT, "Content-Range: bytes 9-9999/9999"),
            ],
            id="continued by more bytes than there are",
        ),
        pytest.param([chunked(CONTENT)], id="without a length"),
    ],
)
def test_a_copy_that_cannot_be_whole_is_an_error(answers: list[bytes]) -> None:
    with talking(*answers) as (store, _), pytest.raises(RemoteError) as failed:
        copy(store)
    assert failed.value.code in ("service_unreachable", "answer_unreadable")
    assert "nothing is half done" in failed.value.hint or failed.value.code == "answer_unreadable"


def test_a_copy_with_other_bytes_than_the_service_has_is_damaged() -> None:
    with talking(answer("200 OK", CONTENT[:-1] + b"x", TAG, SHA256)) as (store, _), pytest.raises(ArchiveDamaged):
        copy(store)


OPERATION = {
    "id": "a" * 16, "kind": "upload", "state": "succeeded", "startedAt": "2026-01-31T12:00:00.000Z",
    "result": {"backup": {"name": "x.tar.gz", "path": "/b/x.tar.gz", "size": 4096,
                          "created": "2026-01-31T12:00:00.000Z"}},
}  # fmt: skip
BEGUN = json_answer("202 Accepted", orjson.dumps({"success": True, "operation": OPERATION}).decode())


def test_an_upload_is_sent_again_as_a_whole_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(CONTENT)
    with talking(lambda _: None, BEGUN) as (store, server):
        entry = store.adopt_upload(str(file), "x.tar.gz")
    assert (entry.name, entry.size) == ("x.tar.gz", 4096)
    first, second = server.requests
    assert first.body == second.body == CONTENT
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert second.line == "POST /api/backup/upload?name=x.tar.gz&async=true HTTP/1.1"


def test_an_upload_tells_how_much_of_it_was_sent(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(CONTENT)
    counted: list[int] = []
    with talking(BEGUN) as (store, _):
        store.adopt_upload(str(file), "x.tar.gz", counted.append)
    assert counted == [len(CONTENT)]


def test_a_file_that_changes_while_it_is_sent_is_not_taken_in(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(CONTENT)
    request = upload_request(str(file), "x.tar.gz")
    assert request.body is not None
    os.utime(file, ns=(1, 1))
    with pytest.raises(InvalidInput, match="was changed"):
        list(request.body())
    file.write_bytes(CONTENT[:10])
    with pytest.raises(InvalidInput, match="was changed"):
        list(request.body())


def test_a_refused_upload_is_the_error_of_the_service(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(CONTENT)
    taken = json_answer("409 Conflict", '{"code": "backup_exists", "error": "exists", "hint": "other name"}')
    with talking(taken) as (store, _), pytest.raises(BackupExists):
        store.adopt_upload(str(file), "x.tar.gz")


def event(sequence: int) -> bytes:
    stamp = b'"sequence":%d,"recordedtime":"2026-01-31T12:00:00.000000Z"}' % sequence
    return b'{"type":"t","id":"%d","source":"s",%s' % (sequence, stamp)


def events(*sequences: int) -> bytes:
    return b"".join(event(each) + b"\n" for each in sequences)


PAST = ScanQuery(generation=GENERATION, upto=9, limit=3)


def test_pages_of_a_moment_are_read_from_one_answer() -> None:
    with talking(chunked(events(1, 2, 3, 4), events(5))) as (store, server):
        first = store.scan(PAST)
        second = store.scan(ScanQuery(generation=GENERATION, upto=9, limit=3, after=first.next or 0))
    assert ([*first.events], first.next) == ([event(1), event(2), event(3)], 3)
    assert ([*second.events], second.next) == ([event(4), event(5)], None)
    (asked,) = server.requests
    assert orjson.loads(asked.body) == {"into": "export", "sequence": 9, "generation": GENERATION, "filter": {}}
    assert "idempotency-key" not in asked.headers


def test_an_export_goes_on_behind_the_last_whole_event() -> None:
    broken = chunked(events(1, 2), event(3)[:20], ends=False)
    with talking(broken, chunked(events(3, 4))) as (store, server):
        page = store.scan(ScanQuery(generation=GENERATION, upto=4, limit=10))
    assert [*page.events] == [event(each) for each in (1, 2, 3, 4)]
    assert orjson.loads(server.requests[1].body)["filter"] == {"fromSequence": 3}


def test_an_export_that_breaks_off_without_an_event_is_an_error() -> None:
    broken = chunked(event(1)[:20], ends=False)
    with talking(broken) as (store, _), pytest.raises(RemoteError, match="broke off"):
        store.scan(PAST)


@pytest.mark.parametrize("line", [b"{}", b"\x1b[31m", b"[1,2]", b'{"sequence":1}'])
def test_a_line_that_is_no_event_is_an_error(line: bytes) -> None:
    with talking(chunked(b"\n".join([line] * 5))) as (store, _), pytest.raises(EventVaultError) as failed:
        store.scan(PAST)
    assert failed.value.code == "answer_unreadable"


def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 2**20)
    with talking(chunked(b"x" * 2**21)) as (store, _), pytest.raises(RemoteError, match="a line has more than"):
        store.scan(PAST)


def difference(*kinds: str) -> bytes:
    return b"".join(b'{"in":"%s","id":"a"}\n' % kind.encode() for kind in kinds)


def test_a_difference_is_counted_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.remote.past._DIFF_LINES", 2)
    summary = b'{"in":"summary","commonSequence":7,"later":1}\n'
    query = DiffQuery(PastView(GENERATION, 5), PastView("archive:a.tar.gz", 9))
    with talking(chunked(difference("from", "to", "both"), summary)) as (store, server):
        first = store.diff(query)
        second = store.diff(DiffQuery(query.one, query.other, first.next))
    assert (first.only_one, first.only_other, first.different, first.next) == (1, 1, 0, (2, 0))
    assert (second.different, second.next, second.common, len(second.lines)) == (1, None, 7, 1)
    assert "from=0123456789abcdef%405&to=a.tar.gz" in server.requests[0].line


@pytest.mark.parametrize("answered", [chunked(difference("to")), chunked(), chunked(b"{}\n"), chunked(b"nonsense\n")])
def test_a_difference_without_a_summary_is_no_difference(answered: bytes) -> None:
    query = DiffQuery(PastView(GENERATION, 5), PastView(GENERATION, 9))
    with talking(answered) as (store, _), pytest.raises(RemoteError) as failed:
        store.diff(query)
    assert failed.value.code == "answer_unreadable"
