"""Names from a disk are shown on one line, in texts that every JSON encoder takes."""

from __future__ import annotations

import json

import orjson
import pytest

from eventvault.errors import BackupsUnavailable, EventVaultError, from_wire
from eventvault.printable import encodable, is_utf8, printable
from eventvault.problems import Problem


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sicherung_m\udce4rz", r"sicherung_m\xe4rz"),
        ("a\nb\x1b[31m\x7f\u2028", r"a\nb\x1b[31m\x7f\u2028"),
        ("lone \ud800", r"lone \ud800"),
        ("Größe 😀 Gro\u0308ße \u202f", "Größe 😀 Gro\u0308ße \u202f"),
        ("archive\u202egnp.tar.gz \u2066\u200f", r"archive\u202egnp.tar.gz \u2066\u200f"),
        ("", ""),
    ],
)
def test_a_text_is_shown_on_one_line(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    assert is_utf8(shown)


def test_data_with_odd_names_can_be_encoded_and_keeps_all_else() -> None:
    data = {"a\udcff": ["\udce4\n", {"n": 1}], "b": None, "c": (True, "ü")}
    assert encodable(data) == {r"a\xff": ["\\xe4\n", {"n": 1}], "b": None, "c": [True, "ü"]}
    assert orjson.loads(orjson.dumps(encodable(data))) == json.loads(json.dumps(encodable(data)))


def test_an_error_and_a_problem_about_any_file_can_be_sent() -> None:
    error = BackupsUnavailable("reading b\udce4\n failed", hint="rename b\udce4", names=["b\udce4"])
    sent: EventVaultError = from_wire(orjson.loads(orjson.dumps(error.to_wire())))
    assert (sent.message, str(sent), sent.hint) == (r"reading b\xe4\n failed",) * 2 + (r"rename b\xe4",)
    assert sent.details == {"names": [r"b\xe4"]}

    problem = Problem("code", "b\udce4\n", "b\udce4", "b\udce4", details={"names": ["b\udce4"]})
    assert orjson.loads(orjson.dumps(problem.describe()))["about"]["name"] == r"b\xe4"
