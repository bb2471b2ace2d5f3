"""Joining the two copies of tokens.json: a matrix of what each may be."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from eventvault.access.joining import join, join_contents
from eventvault.access.token_file import Copy, FileCondition, Revoked, Token, TokenFile

STORAGE, BACKUPS = Path("/storage/tokens.json"), Path("/backups/tokens.json")
BAD = (FileCondition.DAMAGED, FileCondition.NEWER, FileCondition.FOREIGN, FileCondition.UNREADABLE)


def token(token_id: str, created: int = 1, expires: int | None = None) -> Token:
    return Token(token_id, f"name-{token_id}", "read", "00" * 32, created, "shell", expires)


def file(counter: int, *ids: str, revoked: tuple[str, ...] = (), closed: bool = True, register: str = "r") -> TokenFile:
    ended = [Revoked(each, f"name-{each}", 2, "shell") for each in revoked]
    return TokenFile(register, counter, closed, [token(each) for each in ids], ended)


def good(path: Path, content: TokenFile) -> Copy:
    return Copy(path, FileCondition.GOOD, content)


def bad(path: Path, condition: FileCondition, content: TokenFile | None = None) -> Copy:
    return Copy(
        path, condition, content, why="" if condition is FileCondition.ABSENT else f"{path} is {condition.value}"
    )


def ids(content: TokenFile | None) -> list[str]:
    return [] if content is None else [each.id for each in content.tokens]


def test_where_no_token_was_ever_made_the_service_is_open() -> None:
    joined = join(bad(STORAGE, FileCondition.ABSENT), bad(BACKUPS, FileCondition.ABSENT), marked=False)
    assert (joined.content, joined.closed, joined.doubts, joined.behind) == (None, False, (), ())


def test_the_higher_counter_counts() -> None:
    one, other = file(1, "a", closed=True), file(2, closed=False, revoked=("a",))
    for first, second in itertools.permutations([one, other]):
        joined = join(good(STORAGE, first), good(BACKUPS, second), marked=False)
        assert joined.content is not None
        assert (joined.content.counter, joined.closed, ids(joined.content)) == (2, False, [])


@pytest.mark.parametrize("old_copy", [STORAGE, BACKUPS])
def test_an_old_copy_that_was_put_back_makes_no_revoked_token_valid(old_copy: Path) -> None:
    old, new = file(1, "a", "b"), file(2, "b", revoked=("a",))
    in_storage, in_backups = (old, new) if old_copy == STORAGE else (new, old)
    joined = join(good(STORAGE, in_storage), good(BACKUPS, in_backups), marked=True)
    assert ids(joined.content) == ["b"]
    assert [copy.path for copy in joined.behind] == [old_copy]


def test_revocations_of_both_are_joined_whichever_counter_is_higher() -> None:
    one, other = file(7, "b", "c", revoked=("a",)), file(5, "a", "c", revoked=("b",))
    joined = join(good(STORAGE, one), good(BACKUPS, other), marked=True)
    assert ids(joined.content) == ["c"]
    assert joined.content is not None
    assert sorted(each.id for each in joined.content.revoked) == ["a", "b"]


def test_a_token_that_was_made_while_the_other_copy_could_not_be_written_counts() -> None:
    joined = join(good(STORAGE, file(3, "a", "new")), good(BACKUPS, file(4, "a")), marked=True)
    assert ids(joined.content) == ["a", "new"]


def test_joining_depends_on_no_order() -> None:
    contents = [file(3, "a", "b"), file(5, "b", revoked=("a",)), file(4, "c", revoked=("b",))]
    results = [join_contents(list(order)) for order in itertools.permutations(contents)]
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("in_storage", [FileCondition.ABSENT, *BAD])
@pytest.mark.parametrize("in_backups", [FileCondition.ABSENT, *BAD])
@pytest.mark.parametrize("marked", [True, False])
def test_without_a_good_copy_no_token_is_valid_and_the_service_is_open_only_where_nothing_is_in_their_place(
    in_storage: FileCondition, in_backups: FileCondition, marked: bool
) -> None:
    joined = join(bad(STORAGE, in_storage), bad(BACKUPS, in_backups), marked=marked)
    assert joined.content is None
    nothing = in_storage is FileCondition.ABSENT and in_backups in (FileCondition.ABSENT, FileCondition.UNREADABLE)
    assert joined.closed is (marked or not nothing)
    conditions = {doubt.condition for doubt in joined.doubts}
    assert conditions >= {each for each in (in_storage, in_backups) if each is not FileCondition.ABSENT}


@pytest.mark.parametrize("other", [FileCondition.ABSENT, *BAD])
@pytest.mark.parametrize("place", [STORAGE, BACKUPS])
def test_one_good_copy_is_enough_unless_a_later_version_wrote_the_other(other: FileCondition, place: Path) -> None:
    copies = {path: bad(path, other) for path in (STORAGE, BACKUPS)} | {place: good(place, file(1, "a"))}
    joined = join(copies[STORAGE], copies[BACKUPS], marked=False)
    assert joined.closed
    assert ids(joined.content) == ([] if other is FileCondition.NEWER else ["a"])


def test_a_copy_of_another_register_is_ignored_and_named() -> None:
    foreign = file(9, "x", register="other")
    joined = join(good(STORAGE, file(1, "a")), good(BACKUPS, foreign), marked=True)
    assert ids(joined.content) == ["a"]
    assert [doubt.condition for doubt in joined.doubts] == [FileCondition.FOREIGN]
    assert joined.behind == ()


def test_a_copy_of_ours_under_an_earlier_key_is_written_anew() -> None:
    earlier = bad(BACKUPS, FileCondition.FOREIGN, file(1, "a"))
    joined = join(good(STORAGE, file(1, "a")), earlier, marked=True)
    assert joined.doubts == ()
    assert [copy.path for copy in joined.behind] == [BACKUPS]


def test_tokens_that_were_disabled_stay_so_beside_backups_of_another_installation() -> None:
    disabled = good(STORAGE, file(3, closed=False))
    joined = join(disabled, good(BACKUPS, file(9, "x", register="other")), marked=False)
    assert not joined.closed
