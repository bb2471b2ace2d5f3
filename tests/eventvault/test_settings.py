"""Settings are declared once and checked together."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from eventvault import settings
from eventvault.errors import InvalidSettings


def problems(**environment: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        settings.load(environment)
    found: list[str] = caught.value.details["problems"]
    return found


def test_nothing_set_gives_the_promised_defaults() -> None:
    found = settings.load({})
    assert (found.host, found.port, found.web_concurrency) == ("127.0.0.1", 5050, 2)
    assert found.storage_dir == settings.PROJECT / "storage"
    assert found.backup_dir == settings.PROJECT / "backups"
    assert found.restore_dir == settings.PROJECT / "restore"
    assert found.database == settings.PROJECT / "storage" / "event_registry_db"
    assert (found.auto_backup_enabled, found.auto_restore_enabled) == (True, True)
    assert (found.auto_backup_interval, found.max_backups) == (3_600_000, 10)
    assert (str(found.backup_cron), str(found.schedule_time_zone)) == ("off", "UTC")
    assert (found.auto_recover, found.max_body_bytes) == ("false", 32 * 2**20)
    assert found.kafka_bootstrap_servers is None
    assert (str(found.kafka_events_topic), found.kafka_jobs_topic) == ("events", "jobs")
    assert (found.allow_unauthenticated, found.allowed_hosts) == (False, ())
    assert (found.log_level, found.log_format) == ("info", None)
    assert (found.notify_urls, found.ping_url) == ((), None)


def test_every_declaration_is_an_attribute_and_every_attribute_is_declared() -> None:
    attributes = {each.name for each in fields(settings.Settings)} - {"from_environment"}
    assert {each.attribute for each in settings.DECLARATIONS} == attributes


@pytest.mark.parametrize("each", settings.DECLARATIONS, ids=lambda each: each.name)
def test_a_blank_setting_counts_as_unset(each: settings.Declaration) -> None:
    assert settings.load({each.name: " \t"}) == settings.load({})


@pytest.mark.parametrize(
    ("text", "value"),
    [(text, True) for text in ("true", "1", "YES", "On")] + [(text, False) for text in ("false", "0", "no", " off ")],
)
def test_a_boolean_has_four_spellings_in_any_case(text: str, value: bool) -> None:
    assert settings.load({"AUTO_BACKUP_ENABLED": text}).auto_backup_enabled is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTO_BACKUP_ENABLED", "maybe"),
        ("AUTO_RESTORE_ENABLED", "2"),
        ("AUTO_BACKUP_INTERVAL", "999"),
        ("AUTO_BACKUP_INTERVAL", "1e6"),
        ("AUTO_BACKUP_INTERVAL", "-3600000"),
        ("AUTO_BACKUP_INTERVAL", "٣٦٠٠٠٠٠"),
        ("BACKUP_CRON", "0 0 3 * * *"),
        ("BACKUP_CRON", "0 0 30 2 *"),
        ("BACKUP_CRON", "@daily"),
        ("SCHEDULE_TIME_ZONE", "Mars/Olympus"),
        ("SCHEDULE_TIME_ZONE", "../../etc/passwd"),
        ("MAX_BACKUPS", "0"),
        ("MAX_BACKUPS", "ten"),
        ("KEEP_DAILY", "-1"),
        ("KEEP_HOURLY", "all"),
        ("MAX_BACKUP_AGE", "90"),
        ("MAX_BACKUP_AGE", "0d"),
        ("MAX_BACKUP_AGE", "3y"),
        ("MAX_BACKUP_BYTES", "0"),
        ("MAX_BACKUP_BYTES", "50GB"),
        ("PORT", "65536"),
        ("HOST", "not a host"),
        ("WEB_CONCURRENCY", "0"),
        ("AUTO_RECOVER", "perhaps"),
        ("MAX_BODY_BYTES", "1"),
        ("MAX_BODY_BYTES", str(2**28)),
        ("STORAGE_DIR", "~nobody-of-that-name/x"),
        ("KAFKA_BOOTSTRAP_SERVERS", "broker"),
        ("KAFKA_BOOTSTRAP_SERVERS", "broker:0"),
        ("KAFKA_BOOTSTRAP_SERVERS", "one:9092,,two:9092"),
        ("KAFKA_EVENTS_TOPIC", "no spaces"),
        ("KAFKA_EVENTS_TOPIC", "one,,two"),
        ("KAFKA_EVENTS_TOPIC", "^("),
        ("KAFKA_JOBS_TOPIC", ".."),
        ("ALLOWED_HOSTS", ","),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_named_with_its_setting_and_what_is_allowed(name: str, value: str) -> None:
    (declared,) = (each for each in settings.DECLARATIONS if each.name == name)
    assert problems(**{name: value}) == [f"{name} is {value!r}; allowed: {declared.kind.allowed}"]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"KAFKA_EVENTS_TOPIC": "a,jobs"}, "jobs is the topic of jobs (KAFKA_JOBS_TOPIC)"),
        ({"KAFKA_EVENTS_TOPIC": "jobs.reports"}, "jobs.reports is the topic of jobs that workers run"),
        ({"KAFKA_RESULTS_TOPIC": "events"}, "events is the topic of the outcomes of jobs (KAFKA_RESULTS_TOPIC)"),
        ({"KAFKA_EVENTS_TOPIC": "a.dead-letter"}, "a.dead-letter is a topic of dead letters, by its name"),
        ({"KAFKA_EVENTS_TOPIC": "__consumer_offsets"}, "__consumer_offsets is one of Kafka's own topics, by its name"),
    ],
)
def test_a_topic_with_another_use_is_no_events_topic(environment: dict[str, str], reason: str) -> None:
    (problem,) = problems(**environment)
    named = environment.get("KAFKA_EVENTS_TOPIC", "events")
    assert problem == f"KAFKA_EVENTS_TOPIC is '{named}', but {reason}; allowed: topics of events"


@pytest.mark.parametrize(("name", "least"), [("AUTO_BACKUP_INTERVAL", 1000), ("MAX_BACKUPS", 1), ("PORT", 0)])
def test_the_least_allowed_value_is_taken(name: str, least: int) -> None:
    assert getattr(settings.load({name: str(least)}), name.lower()) == least


@pytest.mark.parametrize(("text", "hours"), [("36h", 36), ("90d", 90 * 24), ("8W", 8 * 7 * 24)])
def test_an_age_has_a_unit(text: str, hours: int) -> None:
    found = settings.load({"MAX_BACKUP_AGE": text})
    assert found.max_backup_age is not None
    assert found.max_backup_age.microseconds == hours * 3_600_000_000
    assert settings.load(found.to_environment()) == found


def test_all_errors_are_reported_at_once() -> None:
    found = problems(AUTO_BACKUP_INTERVAL="1", MAX_BACKUPS="0", LOG_LEVEL="loud")
    assert [problem.split()[0] for problem in found] == ["AUTO_BACKUP_INTERVAL", "MAX_BACKUPS", "LOG_LEVEL"]


def test_the_error_is_one_message_with_a_hint() -> None:
    with pytest.raises(InvalidSettings, match=r"PORT is .x.; allowed: .*; MAX_BACKUPS is") as caught:
        settings.load({"PORT": "x", "MAX_BACKUPS": "0"})
    assert "docs/settings.md" in caught.value.hint


def test_a_relative_folder_lies_beside_wsgi_and_an_absolute_one_where_it_says(tmp_path: Path) -> None:
    found = settings.load({"STORAGE_DIR": "data/live", "BACKUP_DIR": str(tmp_path)})
    assert found.storage_dir == settings.PROJECT / "data" / "live"
    assert found.backup_dir == tmp_path.resolve()


def test_one_folder_for_two_purposes_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(BACKUP_DIR=str(tmp_path), RESTORE_DIR=str(tmp_path / "." / "x" / ".."))
    assert problem.startswith("BACKUP_DIR and RESTORE_DIR are both")


def test_a_folder_inside_another_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(STORAGE_DIR=str(tmp_path / "inner"), BACKUP_DIR=str(tmp_path))
    assert problem.startswith(f"STORAGE_DIR ({tmp_path / 'inner'}) is inside BACKUP_DIR ({tmp_path})")


def test_settings_survive_the_way_into_another_process(tmp_path: Path) -> None:
    found = settings.load(
        {
            "STORAGE_DIR": str(tmp_path / "s"),
            "ALLOWED_HOSTS": "one.example, two.example",
            "KAFKA_BOOTSTRAP_SERVERS": "a:1, b:2",
            "AUTO_RECOVER": "Empty",
            "AUTO_BACKUP_ENABLED": "off",
            "LOG_FORMAT": "JSON",
            "NOTIFY_URLS": "ntfy://a,b  mailto://u:p@x.org",
            "PING_URL": "https://hc-ping.com/3f1e",
        }
    )
    assert settings.load(found.to_environment() | found.secrets()) == found
    assert (found.allowed_hosts, found.kafka_bootstrap_servers) == (("one.example", "two.example"), "a:1,b:2")


def test_a_secret_setting_is_neither_in_what_children_get_nor_in_what_is_logged() -> None:
    ping, digest = "https://hc-ping.com/geheim", "0" * 64
    urls, tokens = "ntfy://geheim json://x/geheim", f"ci:read:sha256={digest} cd:read+backup:sha256={digest}"
    found = settings.load({
        "NOTIFY_URLS": urls, "PING_URL": ping, "API_TOKENS": tokens.replace(" ", ", "),
        "KAFKA_SASL_PASSWORD": "geheim in words",
    })  # fmt: skip
    assert found.notify_urls == ("ntfy://geheim", "json://x/geheim")
    assert found.secrets() == {
        "KAFKA_SASL_PASSWORD": "geheim in words", "KAFKA_SSL_KEY_PASSWORD": "", "API_TOKENS": tokens,
        "NOTIFY_URLS": urls, "PING_URL": ping,
    }  # fmt: skip
    assert tuple(found.secrets()) == settings.SECRETS
    shown = f"{found!r}{found}{found.to_environment()}"
    assert "geheim" not in shown
    assert digest not in shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("NOTIFY_URLS", "ntfy://good geheim mailto:geheim@x.org", "'… …'"),
        ("NOTIFY_URLS", "ntfy://", "'ntfy://…'"),
        ("PING_URL", "ftp://example.org/geheim", "'ftp://…'"),
        ("PING_URL", "hc-ping.com/geheim", "'…'"),
        ("PING_URL", "https:///geheim", "'https://…'"),
        ("API_TOKENS", "geheim", "… (entry 1)"),
        ("KAFKA_SASL_PASSWORD", "ge\theim", "…"),
        ("API_TOKENS", f"ci:read:sha256={'0' * 64},ci:read:geheim", "… (entry 2)"),
    ],
)
def test_a_bad_secret_is_named_with_its_setting_and_without_the_secret(name: str, value: str, shown: str) -> None:
    (declared,) = (each for each in settings.DECLARATIONS if each.name == name)
    assert problems(**{name: value}) == [f"{name} is {shown}; allowed: {declared.kind.allowed}"]


def test_a_secret_that_is_not_utf8_is_not_shown() -> None:
    assert problems(PING_URL="https://x/geheim\udcff") == ["PING_URL is not UTF-8: …"]


def test_the_process_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BACKUPS", "3")
    assert settings.load().max_backups == 3


@pytest.mark.parametrize("kind", ["file", "link to a file", "pipe"])
def test_a_storage_folder_that_is_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    storage = tmp_path / "storage"
    match kind:
        case "file":
            storage.write_text("x")
        case "link to a file":
            (tmp_path / "x").write_text("x")
            storage.symlink_to(tmp_path / "x")
        case "pipe":
            os.mkfifo(storage)
    folders = {"BACKUP_DIR": str(tmp_path / "backups"), "RESTORE_DIR": str(tmp_path / "restore")}
    with pytest.raises(InvalidSettings, match=r"^STORAGE_DIR \S+ is not a folder$"):
        settings.make_folders(settings.load({**folders, "STORAGE_DIR": str(storage)}))


@pytest.mark.parametrize("topic", ["events.dead-letter", "jobs", "jobs.work", "job-results", "__consumer_offsets"])
def test_what_has_another_use_is_not_published_to(topic: str) -> None:
    (problem,) = problems(KAFKA_BOOTSTRAP_SERVERS="localhost:9092", KAFKA_PUBLISH_TOPIC=topic)
    assert problem.startswith(f"KAFKA_PUBLISH_TOPIC is {topic!r}, but {topic} is ")


def test_what_is_consumed_is_not_published_to() -> None:
    (problem,) = problems(KAFKA_BOOTSTRAP_SERVERS="localhost:9092", KAFKA_EVENTS_TOPIC="a,b", KAFKA_PUBLISH_TOPIC="b")
    assert "b is the topic of the events that are published (KAFKA_PUBLISH_TOPIC)" in problem


def test_nothing_can_be_published_without_brokers() -> None:
    (problem,) = problems(KAFKA_PUBLISH_TOPIC="published")
    assert problem.startswith("KAFKA_PUBLISH_TOPIC is set, but KAFKA_BOOTSTRAP_SERVERS is not")
    assert (
        settings.load(
            {"KAFKA_PUBLISH_TOPIC": "published", "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092"}
        ).kafka_publish_topic
        == "published"
    )
