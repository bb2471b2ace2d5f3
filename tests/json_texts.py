"""Strategies for JSON texts: any number, escape and order of members, with white space between any two tokens."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st


class Text(NamedTuple):
    """A JSON text as it could be sent, and the same without white space between its tokens."""

    sent: str
    compact: str


_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t", "\r\n  "])
_NUMBER = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,6})?", fullmatch=True)
_CHARACTER = st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=0x20)
_ESCAPE = st.sampled_from([*(f"\\{mark}" for mark in '"\\/bfnrt'), "\\u0000", "\\u003A", "\\u003a", "\\u00e9"])
_PAIR = st.sampled_from(["\\ud83d\\ude00", "\\uDBFF\\uDFFF", ":", " ", '\\\\\\"'])
_STRING = st.lists(st.one_of(_CHARACTER, _ESCAPE, _PAIR), max_size=6).map(lambda parts: f'"{"".join(parts)}"')
_SCALAR = st.one_of(_NUMBER, _STRING, st.sampled_from(["true", "false", "null"])).map(lambda text: Text(text, text))


def _array(values: list[Text], space: str) -> Text:
    sent = f"{space},{space}".join(value.sent for value in values)
    return Text(f"[{space}{sent}{space}]", f"[{','.join(value.compact for value in values)}]")


def _object(values: list[Text], names: list[str], space: str) -> Text:
    """Each name ends in a number, so none comes twice."""
    named = [f'{names[number % len(names)][:-1]}{number}"' for number in range(len(values))]
    pairs = list(zip(named, values, strict=True))
    sent = f"{space},{space}".join(f"{name}{space}:{space}{value.sent}" for name, value in pairs)
    return Text(f"{{{space}{sent}{space}}}", "{" + ",".join(f"{name}:{value.compact}" for name, value in pairs) + "}")


def _containers(inner: st.SearchStrategy[Text]) -> st.SearchStrategy[Text]:
    values = st.lists(inner, max_size=4)
    return st.one_of(
        st.builds(_array, values, _SPACE),
        st.builds(_object, values, st.lists(_STRING, min_size=1, max_size=2), _SPACE),
    )


JSON_TEXTS = st.builds(
    lambda space, text: Text(f"{space}{text.sent}{space}", text.compact),
    _SPACE,
    st.recursive(_SCALAR, _containers, max_leaves=10),
)
