"""`/api/settings`: the settings in force."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from eventvault import settings as core
from eventvault.settings import DECLARATIONS, Declaration, Kind, Settings, load


def listed(web: FlaskClient) -> dict[str, Any]:
    answer: Any = web.get("/api/settings").json
    return {each["name"]: each for each in answer["settings"]}


@pytest.mark.slow
def test_each_setting_is_listed_with_value_default_source_and_unit(web: FlaskClient, settings: Settings) -> None:
    found = listed(web)

    assert list(found) == [declaration.name for declaration in DECLARATIONS]
    assert found["MAX_BODY_BYTES"] == {
        "name": "MAX_BODY_BYTES",
        "value": 100_000,
        "default": 33_554_432,
        "source": "environment",
        "allowed": "a whole number from 1024 to 134217728 (bytes)",
        "unit": "bytes",
        "meaning": found["MAX_BODY_BYTES"]["meaning"],
    }
    assert (found["STORAGE_DIR"]["value"], found["STORAGE_DIR"]["unit"]) == (str(settings.storage_dir), None)
    assert (found["JOURNAL_INTERVAL"]["value"], found["JOURNAL_INTERVAL"]["source"]) == (1000, "default")
    assert (found["AUTO_BACKUP_INTERVAL"]["unit"], found["AUTO_BACKUP_ENABLED"]["value"]) == ("ms", True)
    assert (found["KAFKA_BOOTSTRAP_SERVERS"]["value"], found["KAFKA_BOOTSTRAP_SERVERS"]["default"]) == (None, None)


def test_a_blank_variable_is_a_default(settings_environment: dict[str, str]) -> None:
    blank = load({**settings_environment, "MAX_BACKUPS": "  "})
    (found,) = [each for each in core.describe(blank) if each["name"] == "MAX_BACKUPS"]
    assert (found["value"], found["source"]) == (10, "default")


def test_a_secret_is_never_shown(settings_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Declaration("LOG_FORMAT", Kind(str, "a text"), "", "A secret.", secret=True)
    others = tuple(each for each in DECLARATIONS if each.name != "LOG_FORMAT")
    monkeypatch.setattr(core, "DECLARATIONS", (*others, secret))
    for environment, shown in (({}, None), ({"LOG_FORMAT": "https://user:password@host"}, "set")):
        assert core.describe(load({**settings_environment, **environment}))[-1]["value"] == shown


@pytest.mark.slow
def test_unknown_parameters_are_refused(web: FlaskClient) -> None:
    assert web.get("/api/settings?name=PORT").status_code == 422
