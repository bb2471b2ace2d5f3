"""The alerts and the board for Grafana are understood by Prometheus, and the alerts fire when they shall."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.promtool import promtool
from tests.shown import blocks

PROJECT = Path(__file__).resolve().parent.parent.parent
ALERTS = PROJECT / "deploy" / "prometheus-alerts.yml"
BOARD = PROJECT / "deploy" / "grafana-dashboard.json"
PAGE = PROJECT / "docs" / "monitoring.md"

WELL = {
    "eventvault_store_up": "1x240",
    "eventvault_backups": "3x240",
    "eventvault_store_events": "100x240",
    "eventvault_seconds_at_risk": "2x240",
    'eventvault_backup_late{schedule="BACKUP_CRON"}': "0x240",
    "eventvault_backup_damaged": "0x240",
    "eventvault_backups_failed_total": "4x240",
    "eventvault_rehearsal_success": "1x240",
    "eventvault_rehearsal_timestamp_seconds": "0x240",
    'eventvault_disk_left_seconds{folder="backups"}': "900000x240",
    'eventvault_disk_free_bytes{folder="backups"}': "50x240",
    'eventvault_disk_size_bytes{folder="backups"}': "100x240",
    'eventvault_http_requests_total{status="200"}': "0+100x240",
    'eventvault_http_requests_total{status="503"}': "0+1x240",
}
"""The series of a service that is well: a value for each of 240 minutes, as promtool writes them."""


class Case(NamedTuple):
    """series: what differs from `WELL`; None: is not there. quiet, fires: the minutes at which it is looked at."""

    series: dict[str, str | None]
    quiet: int
    fires: int


CASES = {
    "EventVaultAbsent": Case({"eventvault_store_up": None}, 3, 7),
    "EventVaultStoreDown": Case({"eventvault_store_up": "1x9 0x230"}, 9, 12),
    "EventVaultProblem": Case({'eventvault_problems{code="stuck"}': "1x240"}, 8, 12),
    "EventVaultSecondsAtRisk": Case({"eventvault_seconds_at_risk": "2x9 100x230"}, 9, 12),
    "EventVaultBackupLate": Case({'eventvault_backup_late{schedule="BACKUP_CRON"}': "0x9 1x230"}, 9, 11),
    "EventVaultBackupFailed": Case({"eventvault_backups_failed_total": "4x19 5x220"}, 19, 22),
    "EventVaultNoBackup": Case({"eventvault_backups": "0x2000", "eventvault_store_events": "1x2000"}, 1400, 1450),
    "EventVaultBackupDamaged": Case({"eventvault_backup_damaged": "0x9 2x230"}, 9, 11),
    "EventVaultRehearsalFailed": Case({"eventvault_rehearsal_success": "1x9 0x230"}, 9, 11),
    "EventVaultRehearsalOld": Case({"eventvault_rehearsal_timestamp_seconds": f"{-40 * 86_400}x240"}, 50, 70),
    "EventVaultDiskFull": Case({'eventvault_disk_left_seconds{folder="backups"}': "500000x240"}, 8, 12),
    "EventVaultServerErrors": Case({'eventvault_http_requests_total{status="503"}': "0+10x240"}, 3, 20),
}
"""Each alert, and what makes it fire."""


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(BOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def alerts() -> set[str]:
    return set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))


def test_prometheus_takes_the_alerts() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(ALERTS))


def cases(folder: Path, *tests: dict[str, Any]) -> str:
    """The file of `promtool test rules` with these tests. JSON is YAML."""
    file = folder / "cases.json"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    return str(file)


def case(series: dict[str, str | None], *looks: tuple[str, int, int]) -> dict[str, Any]:
    """looks: an alert, the minute, and how many of it fire then."""
    series = {**WELL, **series}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items() if values],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": count}],
            }
            for alert, minute, count in looks
        ],
    }


@pytest.mark.slow
def test_a_service_that_is_well_fires_no_alert(tmp_path: Path) -> None:
    promtool("test", "rules", cases(tmp_path, case({}, *((alert, 230, 0) for alert in sorted(alerts())))))


@pytest.mark.slow
def test_each_alert_fires_in_its_case_once_it_has_lasted(tmp_path: Path) -> None:
    assert CASES.keys() == alerts()
    tests = [case(one.series, (alert, one.quiet, 0), (alert, one.fires, 1)) for alert, one in CASES.items()]
    promtool("test", "rules", cases(tmp_path, *tests))


def test_prometheus_takes_every_expression_of_the_board(tmp_path: Path) -> None:
    understood = [each.replace("$__rate_interval", "5m").replace("$instance", ".*") for each in expressions()]
    rules = [{"record": f"board:{number}", "expr": each} for number, each in enumerate(understood)]
    file = tmp_path / "board.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))


def test_every_panel_of_the_board_says_what_it_shows_in_a_place_of_its_own() -> None:
    places = set()
    for panel in panels():
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        assert panel["targets"], panel["title"]
        assert all("$instance" in target["expr"] for target in panel["targets"]), panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & places, panel["title"]
        places |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_page_explains_every_alert() -> None:
    rows = re.findall(r"^\| `(EventVault\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(alerts())


@pytest.mark.parametrize("path", [ALERTS, BOARD], ids=lambda path: path.name)
def test_no_secret_and_no_address_of_ours_is_in_them(path: Path) -> None:
    assert re.findall(r"https?://(?!grafana\.com|github\.com)\S+", path.read_text()) == []


def test_prometheus_takes_the_configuration_of_the_page(tmp_path: Path) -> None:
    (text,) = [each.text for each in blocks("docs/monitoring.md") if each.text.startswith("# prometheus.yml\n")]
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "eventvault-alerts.yml").write_text(ALERTS.read_text())
    assert "1 rule files found" in promtool("check", "config", str(tmp_path / "prometheus.yml"))
