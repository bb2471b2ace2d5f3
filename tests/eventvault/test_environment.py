"""What child processes see of this process's environment."""

from __future__ import annotations

import pytest

from eventvault import environment


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD", "GITHUB_TOKEN", "API_TOKENS", "path"])
def test_what_is_not_listed_is_not_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "secret")
    assert name not in environment.for_child({})


@pytest.mark.parametrize("name", ["PATH", "TZ", "TMPDIR", "LC_ALL", "PYTHONPATH", "EVENTVAULT_SERVICE", "LD_PRELOAD"])
def test_what_a_program_needs_is_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "value")
    assert environment.for_child({})[name] == "value"


def test_what_is_added_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert environment.for_child({"TZ": "Europe/Berlin", "STORAGE_DIR": "/s"})["TZ"] == "Europe/Berlin"
