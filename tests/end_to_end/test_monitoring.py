"""What Prometheus gets from the real service: well-formed, and all that alerts, board and documentation name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests import processes
from tests.deploy.test_monitoring import ALERTS, PAGE, expressions
from tests.promtool import promtool
from tests.service import Service

REJECTED = 'eventvault_backup_count non-histogram and non-summary metrics should not have "_count" suffix'
"""What promtool says of a name that is promised."""
AT_LAST = ("eventvault_backup_newest_timestamp_seconds", "eventvault_rehearsal_rto_seconds", "eventvault_job_workers")
NOWHERE = "127.0.0.1:1"
SETTINGS = {
    "BACKUP_CRON": "0 0 1 1 *",
    "JOBS_ENABLED": "true",
    "KAFKA_BOOTSTRAP_SERVERS": NOWHERE,
    "KAFKA_PUBLISH_TOPIC": "published",
}


@pytest.fixture(scope="module")
def scraped(module_service: Callable[..., Service]) -> str:
    """The metrics of a service that did a little of everything."""
    running = module_service(workers=2, environment=SETTINGS)
    running.post("/api/events", {"type": "t"})
    name = running.post("/api/backup/create").json()["name"]
    running.post(f"/api/backup/{name}/verify")
    assert running.post("/api/backup/rehearse").status == 200
    running.post("/api/backup/restore", {"backupName": name})

    def metrics() -> str:
        return running.get("/metrics").body.decode()

    processes.wait_until(
        lambda: set(AT_LAST) <= names(metrics()), "the archive, its rehearsal or the worker is not seen"
    )
    return metrics()


def names(text: str) -> set[str]:
    """The names of the metrics that an expression uses."""
    return set(re.findall(r"\beventvault_[a-z0-9_]*[a-z0-9]\b", text))


def shown(scraped: str) -> set[str]:
    """The names of the samples; of families too, as one may have no sample yet."""
    families = list(text_string_to_metric_families(scraped))
    return {family.name for family in families} | {sample.name for family in families for sample in family.samples}


def test_prometheus_finds_nothing_to_say_of_the_metrics_but_for_a_name_that_is_promised(scraped: str) -> None:
    said = promtool("check", "metrics", text=scraped, status=3)
    assert [line for line in said.splitlines() if line.strip()] == [REJECTED]


def test_every_metric_of_an_alert_is_shown(scraped: str) -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in names(rule["expr"])}
    assert len(named) > 8
    assert sorted(named - shown(scraped)) == []


def test_every_metric_of_the_board_is_shown(scraped: str) -> None:
    named = {name for expression in expressions() for name in names(expression)}
    assert len(named) > 15
    assert sorted(named - shown(scraped)) == []


def test_every_metric_that_the_page_names_is_shown(scraped: str) -> None:
    named = set(re.findall(r"`(eventvault_\w+)[`{]", PAGE.read_text()))
    assert len(named) > 15
    assert sorted(named - shown(scraped)) == []
