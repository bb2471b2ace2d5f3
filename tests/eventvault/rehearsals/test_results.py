"""The history of rehearsals, and which of them are problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventvault import data_folders, small_files
from eventvault.rehearsals.results import MAX_RESULTS, Failure, Kind, Rehearsal, RehearsalHistory, failures, problem_of

FAILURE = Failure("archive_damaged", "it is damaged", "make another one")


def result(at: int, *, ok: bool = True, kind: Kind = "newest", backup: str | None = "a.tar.gz") -> Rehearsal:
    return Rehearsal(ok=ok, at=at, kind=kind, backup=backup, problem=None if ok else FAILURE)


def test_the_newest_hundred_stay_newest_first_also_for_the_next_store(tmp_path: Path) -> None:
    history = RehearsalHistory(tmp_path)
    for number in range(MAX_RESULTS + 3):
        history.add(result(number))

    for seen in (history, RehearsalHistory(tmp_path)):
        assert [each.at for each in seen.results()] == list(range(MAX_RESULTS + 2, 2, -1))
        assert seen.newest() == result(MAX_RESULTS + 2)


def test_a_damaged_file_is_quarantined_and_a_new_history_begins(tmp_path: Path) -> None:
    path = tmp_path / data_folders.REHEARSALS
    path.write_text("{")
    history = RehearsalHistory(tmp_path)

    assert list(history.results()) == []
    history.add(result(1))

    assert [each.at for each in RehearsalHistory(tmp_path).results()] == [1]
    assert len(small_files.quarantined(path)) == 1


def test_what_cannot_be_written_is_known_as_long_as_this_store_lives(tmp_path: Path) -> None:
    history = RehearsalHistory(tmp_path / "missing")
    history.add(result(1))

    assert history.newest() == result(1)


def test_a_file_that_cannot_be_read_now_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RehearsalHistory(tmp_path).add(result(1))

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    history = RehearsalHistory(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(small_files, "read_or_quarantine", refuse)
        history.add(result(2))
        assert history.newest() == result(2)
    assert [each.at for each in RehearsalHistory(tmp_path).results()] == [1]
    history.add(result(3))
    assert [each.at for each in RehearsalHistory(tmp_path).results()] == [3, 2, 1]


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        ([result(1, ok=False)], [1]),
        ([result(2), result(1, ok=False)], []),
        ([result(2, kind="backup"), result(1, ok=False)], [1]),
        ([result(2), result(1, ok=False, kind="backup")], [1]),
        ([result(2, kind="backup"), result(1, ok=False, kind="backup")], []),
        ([result(2, kind="backup", backup="b.tar.gz"), result(1, ok=False, kind="backup")], [1]),
        ([result(2, kind="moment"), result(1, ok=False)], [1]),
        ([result(2), result(1, ok=False, kind="moment")], []),
        ([result(2, ok=False), result(1, ok=False)], [2]),
        ([result(1, ok=False, backup=None)], [1]),
        ([result(1, ok=False, backup="gone.tar.gz")], []),
        ([result(1, ok=False, kind="backup", backup="gone.tar.gz")], []),
    ],
)
def test_a_failure_counts_until_the_same_succeeds_or_its_archive_is_gone(
    newest_first: list[Rehearsal], expected: list[int]
) -> None:
    assert [each.at for each in failures(newest_first, lambda name: name != "gone.tar.gz")] == expected


def test_the_problem_names_the_archive_the_code_and_what_to_do() -> None:
    problem = problem_of(result(5, ok=False))

    assert (problem.code, problem.about, problem.since) == ("rehearsal_failed", "a.tar.gz", 5)
    assert (problem.details, problem.degrades) == ({"code": "archive_damaged"}, True)
    assert "a.tar.gz" in problem.message
    assert "it is damaged" in problem.message
    assert "make another one" in problem.hint


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("backup", "/api/backup/a.tar.gz/rehearse"),
        ("newest", "/api/backup/rehearse"),
        ("moment", "/api/backup/rehearse"),
    ],
)
def test_the_rehearsal_that_the_problem_asks_for_settles_it(kind: Kind, address: str) -> None:
    failed = result(1, ok=False, kind=kind)
    again = result(2, kind="backup" if kind == "backup" else "newest")

    assert problem_of(failed).hint.endswith(f"POST {address}")
    assert failures([again, failed], lambda name: True) == []
