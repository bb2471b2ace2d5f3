from __future__ import annotations

from pathlib import Path

import pytest

from eventvault.audit.lines import BEGUN
from eventvault.audit.reading import read_page, unfinished
from tests.eventvault.audit.audits import Audit, entry

MONTHS = ("2026-01", "2026-02", "2026-03")
EACH = 700
ALL = EACH * len(MONTHS)


@pytest.fixture(scope="module")
def long_audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Files that are longer than what is read at once."""
    audit = Audit(tmp_path_factory.mktemp("audit"))
    audit.fill(*MONTHS, each=EACH)
    return audit


@pytest.mark.parametrize("after", [0, 1, 5, 349, 698, 699, 700, 701, 1399, 1400, 1401, 2050, ALL - 1, ALL, ALL + 9])
def test_a_page_has_the_lines_behind_a_line(long_audit: Audit, after: int) -> None:
    page = read_page(long_audit.folder, after, 50)
    assert [line.line for line in page.lines] == list(range(after + 1, min(after + 50, ALL) + 1))
    assert page.last == ALL


def test_pages_make_up_the_whole(long_audit: Audit) -> None:
    found: list[int] = []
    while page := read_page(long_audit.folder, found[-1] if found else 0, 300).lines:
        found += [line.line for line in page]
    assert found == list(range(1, ALL + 1))


def test_no_audit_has_no_lines(tmp_path: Path) -> None:
    assert read_page(tmp_path / "audit", 0, 10).lines == []
    assert unfinished(tmp_path / "audit") == []


def test_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.fill("2026-01")
    raw = audit.raw()
    raw[1] = b"\xff\n"
    audit.replace([*raw, b'{"line":5,'])
    page = read_page(audit.folder, 0, 10)
    assert [line.line for line in page.lines] == [1, 3, 4]
    assert page.last == 4


def test_what_was_begun_and_not_ended_is_found(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    begun = [entry(number, state=BEGUN, result=None) for number in range(4)]
    audit.chain.append([*begun, entry(1), entry(3)])
    assert [each.operation for each in unfinished(audit.folder)] == [begun[0].operation, begun[2].operation]
