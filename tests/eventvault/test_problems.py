"""Problems that wait for a decision: what is reported lasts until it is resolved or accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventvault import data_folders, small_files
from eventvault.errors import InvalidInput, NothingToAccept
from eventvault.problems import CONSEQUENCES, OpenProblems, Problem, ProblemTimes, damaged_file

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "problems.md"


def rolled_back(generation: str, message: str = "31 events are not here") -> Problem:
    return Problem("rolled_back", message, "restore them", about=generation)


class Source:
    """A source whose problems go away when they are accepted."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = list(problems)

    def waiting(self) -> list[Problem]:
        return list(self.problems)

    def accept(self, problem: Problem) -> None:
        self.problems.remove(problem)


def test_a_reported_problem_is_named_by_every_later_store_until_it_is_resolved(tmp_path: Path) -> None:
    OpenProblems(tmp_path, lambda: 5).report(rolled_back("a"))
    later = OpenProblems(tmp_path, lambda: 9)
    later.report(rolled_back("a", "32 events are not here"))

    (problem,) = OpenProblems(tmp_path).all()
    assert (problem.message, problem.since) == ("32 events are not here", 5)
    later.resolve("rolled_back", "a")
    assert OpenProblems(tmp_path).all() == later.all() == []


def test_an_accepted_problem_is_not_reported_again(tmp_path: Path) -> None:
    problems = OpenProblems(tmp_path)
    problems.report(rolled_back("a"))
    problems.accept_waiting(problems.find("rolled_back"))

    for again in (problems, OpenProblems(tmp_path)):
        again.report(rolled_back("a"))
        assert again.all() == []
        again.report(rolled_back("b"))
        assert [problem.about for problem in again.all()] == ["b"]


def test_a_problem_without_about_that_returns_after_it_was_accepted_is_named_again(tmp_path: Path) -> None:
    problems = OpenProblems(tmp_path)
    for _ in range(2):
        problems.report(Problem("clock_ahead", "the clock is ahead", "set it"))
        problems.accept_waiting(problems.find("clock_ahead"))
        assert problems.all() == []


def test_each_problem_is_accepted_by_the_source_that_has_it(tmp_path: Path) -> None:
    problems, source = OpenProblems(tmp_path), Source(Problem("clock_ahead", "ahead", "set it"))
    problems.add_source(source)
    problems.report(rolled_back("a"))
    ahead = problems.find("clock_ahead")

    problems.accept_waiting(ahead)
    problems.accept_waiting(ahead)

    assert source.problems == []
    assert [problem.code for problem in problems.all()] == ["rolled_back"]


def test_one_of_several_problems_with_the_same_code_must_be_named(tmp_path: Path) -> None:
    problems = OpenProblems(tmp_path)
    problems.report(rolled_back("a"))
    problems.report(rolled_back("b"))

    with pytest.raises(InvalidInput, match="2 problems") as several:
        problems.find("rolled_back")
    assert "a, b" in several.value.hint
    assert problems.find("rolled_back", "b").about == "b"
    with pytest.raises(NothingToAccept, match="about c"):
        problems.find("rolled_back", "c")


def test_a_disk_that_takes_no_file_hides_no_problem_and_lets_nothing_be_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    problems = OpenProblems(folder)
    problems.report(rolled_back("a"))
    assert len(problems.all()) == 1
    with pytest.raises(OSError, match="No such file"):
        problems.accept_waiting(problems.find("rolled_back"))
    assert len(problems.all()) == 1

    folder.mkdir()
    problems.accept_waiting(problems.find("rolled_back"))
    assert problems.all() == OpenProblems(folder).all() == []


def test_the_records_of_accepted_problems_do_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventvault.problems.MAX_ACCEPTED", 3)
    problems = OpenProblems(tmp_path)
    for number in range(5):
        problems.report(rolled_back(str(number)))
        problems.accept_waiting(problems.find("rolled_back"))
    problems.report(rolled_back("4"))
    assert problems.all() == []
    problems.report(rolled_back("0"))
    assert len(problems.all()) == 1


def test_a_damaged_record_is_quarantined(tmp_path: Path) -> None:
    OpenProblems(tmp_path).report(rolled_back("a"))
    record = tmp_path / data_folders.PROBLEMS
    record.write_bytes(record.read_bytes().replace(b"31", b"13"))

    problems = OpenProblems(tmp_path)

    assert problems.all() == []
    assert len(small_files.quarantined(record)) == 1
    problems.report(rolled_back("a"))
    assert len(OpenProblems(tmp_path).all()) == 1


def test_a_problem_has_the_time_since_when_it_is_named_without_a_break() -> None:
    instants = iter([100, 200, 300, 400])
    times = ProblemTimes(lambda: next(instants))
    lag, dated = (
        Problem("journal_failed", "it is behind", "wait"),
        Problem("rolled_back", "it was", "see", "a", since=5),
    )

    assert [problem.since for problem in times.with_since([lag, dated])] == [100, 5]
    assert [problem.since for problem in times.with_since([lag])] == [100]
    assert times.with_since([]) == []
    assert [problem.since for problem in times.with_since([lag])] == [400]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("backup_damaged", "backup"), ("seal_changed", "backup"), ("kafka_topic_recreated", "partition"),
        ("journal_damaged", "segment"), ("restore_refused", "restore"), ("rolled_back", "generation"),
        ("stuck", "part"), ("file_damaged", "file"),
    ],
)  # fmt: skip
def test_what_a_problem_is_about_has_a_kind_and_a_name(code: str, kind: str) -> None:
    assert Problem(code, "it was", "see", "a").describe()["about"] == {"kind": kind, "name": "a"}
    assert Problem(code, "it was", "see").describe()["about"] is None


def test_the_page_explains_every_code_that_can_be_accepted() -> None:
    rows = set(re.findall(r"^\| `([a-z_]+)` \|", DOCUMENT.read_text(), re.MULTILINE))
    assert rows == {code for code in CONSEQUENCES if not code.startswith("kafka_")}


def test_a_quarantined_file_is_named_by_both_names_with_what_its_loss_means() -> None:
    message = "/data/storage/clock.json was damaged and is /data/storage/clock.json.damaged-2 now; it is noted again"
    problem = damaged_file(Path("/data/storage/clock.json.damaged-2"), "it is noted again")
    assert (problem.code, problem.message, problem.about) == (
        "file_damaged", message, "/data/storage/clock.json.damaged-2",
    )  # fmt: skip
    assert problem.hint == "check that disk, then remove the damaged file"
    other = damaged_file(Path("/data/tokens.json.damaged"), "none is valid", "make new ones", "tokens_damaged")
    assert (other.code, other.hint) == ("tokens_damaged", "make new ones")
