"""The names of archives, made and parsed, and names from outside that are refused."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault import clock
from eventvault.backups.names import candidates, check_name, file_problem, instant_of, looks_like_archive, slug
from eventvault.errors import InvalidInput

NOON = clock.parse("2024-12-27T12:00:00.999Z")


def first(count: int, label: str | None = None) -> list[str]:
    return list(itertools.islice(candidates(NOON, label), count))


def test_a_name_is_the_instant_in_utc_and_a_number_when_it_is_taken() -> None:
    assert first(3) == [f"backup_2024-12-27_120000{more}.tar.gz" for more in ("", "_2", "_3")]


def test_a_label_is_in_the_name_as_its_slug() -> None:
    assert first(2, "Before Migration!") == [
        "backup_2024-12-27_120000_before-migration.tar.gz", "backup_2024-12-27_120000_before-migration_2.tar.gz",
    ]  # fmt: skip


@pytest.mark.parametrize("label", [None, "", "---", "日本", " \n"])
def test_a_label_with_nothing_to_show_leaves_no_trace(label: str | None) -> None:
    assert first(1, label) == ["backup_2024-12-27_120000.tar.gz"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [("manual-backup", "manual-backup"), ("Käse & Brot", "kase-brot"), ("../../etc", "etc"), ("a_b c.d", "a-b-c-d")],
)
def test_a_slug_keeps_what_can_be_read(label: str, expected: str) -> None:
    assert slug(label) == expected


@pytest.mark.slow
@given(st.text(max_size=300), st.integers(0, 4_000_000_000_000_000), st.integers(0, 3))
def test_each_name_that_is_made_is_valid_and_gives_its_instant_back(label: str, instant: int, number: int) -> None:
    name = next(itertools.islice(candidates(instant, label), number, None))
    assert check_name(name) == name
    assert instant_of(name) == instant // 1_000_000 * 1_000_000
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?|", slug(label))


@pytest.mark.parametrize(
    "name",
    ["backup_2024-13-27_120000.tar.gz", "backup_2024-12-27_250000.tar.gz", "backup_2024-12-27.tar.gz", "x.tar.gz",
     "backup_2024-12-27_120000x.tar.gz", "backup_2024-12-27_120000.tar", "backup_٢٠٢٤-12-27_120000.tar.gz"],
)  # fmt: skip
def test_a_name_without_an_instant_gives_none(name: str) -> None:
    assert instant_of(name) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "is not a string"),
        (7, "is not a string"),
        (["a.tar.gz"], "is not a string"),
        ("", "does not end in .tar.gz"),
        ("backup.zip", "does not end in .tar.gz"),
        ("backup.TAR.GZ", "does not end in .tar.gz"),
        (".tar.gz", "begins with a dot"),
        ("..", "begins with a dot"),
        (".hidden.tar.gz", "begins with a dot"),
        ("../backup.tar.gz", "holds a path"),
        ("/etc/backup.tar.gz", "holds a path"),
        ("a\\b.tar.gz", "holds a path"),
        ("a\0.tar.gz", "holds control characters"),
        ("a\n.tar.gz", "holds control characters"),
        ("a\x85.tar.gz", "holds control characters"),
        ("a\u2028.tar.gz", "holds control characters"),
        ("a\udcff.tar.gz", "is not UTF-8"),
        ("ä" * 125 + ".tar.gz", "is longer than 255 bytes"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(name: object, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        check_name(name)
    assert caught.value.details["fields"] == {"name": [f"it {problem}"]}


@pytest.mark.parametrize(
    "name", ["a.tar.gz", "Größe 1.tar.gz", "a..tar.gz", "ä" * 124 + ".tar.gz", "x" * 248 + ".tar.gz"]
)
def test_any_plain_name_is_accepted_and_can_be_a_file(name: str, tmp_path: Path) -> None:
    assert check_name(name) == name
    (tmp_path / name).touch()


def test_a_name_of_another_kind_of_file_is_told_from_a_path() -> None:
    assert file_problem("notes.txt") is None
    assert file_problem("../notes.txt") == "holds a path"


@pytest.mark.parametrize(("name", "expected"), [("a.tar.gz", True), ("._a.tar.gz", False), ("a.tar.gz.part", False)])
def test_a_hidden_file_and_one_with_another_suffix_do_not_look_like_archives(name: str, expected: bool) -> None:
    assert looks_like_archive(name) is expected
