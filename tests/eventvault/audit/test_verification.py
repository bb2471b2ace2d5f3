"""Whatever is done to a line, the verification names that line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.eventvault.audit.audits import Audit, entry

COUNT = 12


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Twelve lines in three files."""
    audit = Audit(tmp_path)
    audit.fill("2026-01", "2026-02", "2026-03")
    return audit


def first_number(text: str | None) -> int:
    """The first line that the sentence names."""
    assert text is not None
    found = re.search(r"lines? (\d+)", text)
    assert found is not None, text
    return int(found[1])


def test_a_whole_chain_is_whole_and_nothing_is_changed(audit: Audit) -> None:
    before = {path: path.read_bytes() for path in (*audit.folder.iterdir(), *audit.storage.iterdir())}
    verified = audit.verify()
    assert (verified.lines, verified.files, verified.noted, verified.bad) == (COUNT, 3, COUNT, None)
    assert {path: path.read_bytes() for path in (*audit.folder.iterdir(), *audit.storage.iterdir())} == before


def test_no_line_at_all_is_whole(tmp_path: Path) -> None:
    verified = Audit(tmp_path).verify()
    assert (verified.lines, verified.files, verified.bad) == (0, 0, None)


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_a_changed_line_is_named(audit: Audit, number: int) -> None:
    raw = audit.raw()
    raw[number - 1] = raw[number - 1].replace(b"tester", b"nobody")
    audit.replace(raw)
    assert first_number(audit.verify().bad) == number


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_a_removed_line_is_named(audit: Audit, number: int) -> None:
    raw = audit.raw()
    del raw[number - 1]
    audit.replace(raw)
    assert first_number(audit.verify().bad) == number


@pytest.mark.parametrize("number", range(1, COUNT))
def test_swapped_lines_are_named(audit: Audit, number: int) -> None:
    raw = audit.raw()
    raw[number - 1], raw[number] = raw[number], raw[number - 1]
    audit.replace(raw)
    assert first_number(audit.verify().bad) == number


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_a_line_that_is_there_twice_is_named(audit: Audit, number: int) -> None:
    raw = audit.raw()
    raw.insert(number, raw[number - 1])
    audit.replace(raw)
    assert first_number(audit.verify().bad) == number


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_a_line_that_is_no_line_any_more_is_named(audit: Audit, number: int) -> None:
    raw = audit.raw()
    raw[number - 1] = b"\xff" + raw[number - 1][1:]
    audit.replace(raw)
    bad = audit.verify().bad or ""
    row, month = (number - 1) % 4 + 1, (number - 1) // 4 + 1
    assert f"audit-2026-{month:02d}.jsonl:{row}" in bad


@pytest.mark.parametrize("rest", range(COUNT))
def test_a_tail_that_was_cut_off_is_named(audit: Audit, rest: int) -> None:
    audit.replace(audit.raw()[:rest])
    assert first_number(audit.verify().bad) == rest + 1


def test_a_line_that_was_cut_in_two_at_the_end_is_named(audit: Audit) -> None:
    raw = audit.raw()
    audit.replace([*raw[:-1], raw[-1][:-20]])
    assert first_number(audit.verify().bad) == COUNT


@pytest.mark.parametrize("month", [1, 2, 3])
def test_a_removed_month_is_named(audit: Audit, month: int) -> None:
    (audit.folder / f"audit-2026-{month:02d}.jsonl").unlink()
    assert first_number(audit.verify().bad) == month * 4 - 3


def test_a_torn_line_that_was_changed_after_it_was_named_is_named(audit: Audit) -> None:
    path = audit.folder / "audit-2026-03.jsonl"
    path.write_bytes(path.read_bytes() + b'{"line":13,"a')
    audit.anew().append([entry(20, "2026-03")])
    assert audit.verify().bad is None
    path.write_bytes(path.read_bytes().replace(b'{"line":13,"a\n', b'{"line":13,"b\n'))
    assert "audit-2026-03.jsonl:5" in (audit.verify().bad or "")
