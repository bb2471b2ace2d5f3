"""Sessions: a cookie and a key for twelve hours since the last use, the same in all processes."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventvault import file_locks
from eventvault.access import session as sessions_module
from eventvault.access.session import MOST_OF_TOKEN, Sessions
from eventvault.errors import TooBusy

MINUTE = 60_000_000
HOUR = 60 * MINUTE
TOKEN, OTHER = "4fQ2mZ8k", "8k4fQ2mZ"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Sessions:
    return Sessions(tmp_path, clock)


@pytest.fixture
def another_worker(tmp_path: Path, clock: Clock) -> Sessions:
    return Sessions(tmp_path, clock)


def test_a_session_is_found_by_its_cookie_and_has_its_key(sessions: Sessions) -> None:
    new = sessions.begin(TOKEN)
    session = sessions.find(new.cookie)
    assert session is not None
    assert session.token == TOKEN
    assert session.has_key(new.key)
    assert not session.has_key(new.cookie)
    assert not session.has_key("")


@pytest.mark.parametrize("cookie", ["", "x", "x" * 43, "x" * 10_000, "\udcff", "é"])
def test_another_cookie_finds_nothing(sessions: Sessions, cookie: str) -> None:
    sessions.begin(TOKEN)
    assert sessions.find(cookie) is None


def test_the_key_and_the_digests_in_the_file_are_no_cookies(sessions: Sessions, tmp_path: Path) -> None:
    new = sessions.begin(TOKEN)
    assert sessions.find(new.key) is None
    (noted,) = json.loads((tmp_path / "sessions.json").read_text())["sessions"]
    assert sessions.find(noted["cookie"]) is None


@pytest.mark.slow
def test_all_workers_know_a_session_at_once_and_its_end_too(sessions: Sessions, another_worker: Sessions) -> None:
    for _ in range(50):
        new = sessions.begin(TOKEN)
        session = another_worker.find(new.cookie)
        assert session is not None
        sessions.end(session)
        assert another_worker.find(new.cookie) is None
        assert not another_worker.is_live(session)


def test_a_session_ends_twelve_hours_after_its_last_use(
    sessions: Sessions, another_worker: Sessions, clock: Clock
) -> None:
    cookie = sessions.begin(TOKEN).cookie
    for _ in range(5):
        clock.now += 11 * HOUR
        session = another_worker.find(cookie)
        assert session is not None
        another_worker.note_use(session)
    clock.now += 12 * HOUR - 1
    assert sessions.find(cookie) is not None
    clock.now += 1
    assert sessions.find(cookie) is None


def test_a_use_is_noted_at_most_once_a_minute(sessions: Sessions, clock: Clock, tmp_path: Path) -> None:
    cookie = sessions.begin(TOKEN).cookie
    before = (tmp_path / "sessions.json").read_bytes()
    clock.now += MINUTE - 1
    session = sessions.find(cookie)
    assert session is not None
    sessions.note_use(session)
    assert (tmp_path / "sessions.json").read_bytes() == before
    clock.now += 1
    sessions.note_use(session)
    assert (tmp_path / "sessions.json").read_bytes() != before


def test_a_use_does_not_bring_back_a_session_that_ended_meanwhile(sessions: Sessions, clock: Clock) -> None:
    cookie = sessions.begin(TOKEN).cookie
    session = sessions.find(cookie)
    assert session is not None
    sessions.end(session)
    clock.now += 2 * MINUTE
    sessions.note_use(session)
    sessions.end(session)
    assert sessions.find(cookie) is None


def test_a_session_of_a_future_that_the_clock_has_left_does_not_last_longer(sessions: Sessions, clock: Clock) -> None:
    cookie = sessions.begin(TOKEN).cookie
    clock.now -= 13 * HOUR
    assert sessions.find(cookie) is None


def test_the_file_is_for_its_owner_alone_and_has_neither_cookie_nor_key(sessions: Sessions, tmp_path: Path) -> None:
    new = sessions.begin(TOKEN)
    path = tmp_path / "sessions.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert new.cookie not in path.read_text()
    assert new.key not in path.read_text()
    assert json.loads(path.read_text())["format"] == 1


def test_a_session_that_is_over_leaves_the_file_when_it_is_written_next(
    sessions: Sessions, clock: Clock, tmp_path: Path
) -> None:
    sessions.begin(TOKEN)
    clock.now += 12 * HOUR
    sessions.begin(TOKEN)
    assert len(json.loads((tmp_path / "sessions.json").read_text())["sessions"]) == 1


def test_a_token_has_a_hundred_sessions_and_the_next_one_ends_the_one_unused_longest(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "MOST_OF_TOKEN", 5)
    assert MOST_OF_TOKEN == 100
    of_other = sessions.begin(OTHER).cookie
    cookies = []
    for _ in range(5):
        clock.now += MINUTE
        cookies.append(sessions.begin(TOKEN).cookie)
    clock.now += MINUTE
    first = sessions.find(cookies[0])
    assert first is not None
    sessions.note_use(first)
    sessions.begin(TOKEN)
    assert [sessions.find(cookie) is not None for cookie in cookies] == [True, False, True, True, True]
    assert sessions.find(of_other) is not None


@pytest.mark.parametrize("content", [b"", b"{}", b'{\n "checksum": "sha256:' + b"0" * 64 + b'",\n "format": 1\n}\n'])
def test_a_damaged_file_ends_all_sessions_and_new_ones_can_begin(
    sessions: Sessions, another_worker: Sessions, tmp_path: Path, content: bytes
) -> None:
    cookie = sessions.begin(TOKEN).cookie
    (tmp_path / "sessions.json").write_bytes(content)
    assert another_worker.find(cookie) is None
    assert sessions.find(cookie) is None
    assert (tmp_path / "sessions.json.damaged").read_bytes() == content
    assert another_worker.find(sessions.begin(TOKEN).cookie) is not None


def test_a_file_of_a_later_version_counts_as_damaged(sessions: Sessions, tmp_path: Path) -> None:
    cookie = sessions.begin(TOKEN).cookie
    path = tmp_path / "sessions.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert sessions.find(cookie) is None


def test_without_the_file_nobody_is_signed_in(sessions: Sessions, tmp_path: Path) -> None:
    cookie = sessions.begin(TOKEN).cookie
    (tmp_path / "sessions.json").unlink()
    assert sessions.find(cookie) is None


@pytest.mark.slow
def test_workers_that_write_at_once_lose_no_session(tmp_path: Path, clock: Clock) -> None:
    workers = [Sessions(tmp_path, clock) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        cookies = list(pool.map(lambda number: workers[number % 4].begin(TOKEN).cookie, range(40)))
    assert all(workers[0].find(cookie) for cookie in cookies)


def test_a_worker_that_cannot_write_in_time_says_so(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "_LOCK_SECONDS", 0.05)
    with file_locks.holding(tmp_path / ".sessions.lock", 1), pytest.raises(TooBusy, match="sessions"):
        sessions.begin(TOKEN)


def test_a_use_waits_for_no_other_worker(sessions: Sessions, tmp_path: Path, clock: Clock) -> None:
    session = sessions.find(sessions.begin(TOKEN).cookie)
    assert session is not None
    clock.now += 2 * MINUTE
    with file_locks.holding(tmp_path / ".sessions.lock", 1):
        sessions.note_use(session)
