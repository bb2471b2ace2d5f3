"""Scopes: their text and what each includes."""

from __future__ import annotations

import pytest

from eventvault import scopes


@pytest.mark.parametrize("text", ["read", "backup+read", "metrics", "Admin", " read + write "])
def test_scopes_are_read_as_they_are_written(text: str) -> None:
    granted = scopes.parse(text)
    assert scopes.parse(scopes.text_of(granted)) == granted


@pytest.mark.parametrize("text", ["", "+", "read+", "root", "read,write", "read backup"])
def test_other_words_are_no_scopes(text: str) -> None:
    with pytest.raises(ValueError):
        scopes.parse(text)


def test_each_scope_includes_what_the_contract_says() -> None:
    included = {scope: scopes.included_in(frozenset([scope])) for scope in scopes.SCOPES}
    assert included == {
        "read": {"read", "metrics"},
        "write": {"write", "read", "metrics"},
        "backup": {"backup"},
        "metrics": {"metrics"},
        "admin": {"read", "write", "backup", "metrics", "admin"},
    }
    assert scopes.included_in(frozenset(["backup", "metrics"])) == {"backup", "metrics"}
