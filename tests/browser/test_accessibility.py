"""What axe finds in each state of the dashboard, in both themes, wide and narrow: nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from eventvault.settings import PROJECT
from tests import packages
from tests.browser.conftest import Visit
from tests.service import Service

pytestmark = pytest.mark.browser

AXE = packages.TARGET / "ui"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def axe() -> str:
    packages.need("node", "npm")
    AXE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PROJECT / "scripts" / "ui-packages" / name, AXE)
    packages.prepare(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], AXE)
    return (AXE / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service]) -> Service:
    """A service with events, a backup, and events that a restore set aside."""
    vault = module_service(
        environment={"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false", "JOBS_ENABLED": "true"}
    )
    dead = {"type": "webhook", "id": "dead", "payload": {"url": "https://example.org/"}}  # there is no key to sign it
    assert vault.post("/api/jobs", [{"type": "echo", "id": "later", "delay": 3600}, dead]).status == 201
    assert vault.request("PUT", "/api/jobs/schedules/nightly", {"type": "echo", "cron": "0 3 * * *"}).status == 200
    vault.post(
        "/api/events", [{"type": f"order.{n % 3}", "subject": f"orders/{n}", "data": {"n": n}} for n in range(60)]
    )
    name = vault.post("/api/backup/create", {"label": "before the migration"}).json()["name"]
    vault.post("/api/events", [{"type": "order.cancelled", "data": {"n": n}} for n in range(30)])
    vault.post("/api/backup/restore", {"backupName": name})
    vault.post("/api/events", {"type": "after"})
    return vault


def plan(page: Any) -> None:
    page.get_by_role("button", name="Last backup").click()
    page.get_by_role("button", name="Go back…").wait_for()


def question(page: Any) -> None:
    plan(page)
    page.get_by_role("button", name="Go back…").click()
    page.get_by_role("dialog").wait_for()


def refused(page: Any) -> None:
    page.get_by_role("alert").wait_for()


def set_aside(page: Any) -> None:
    page.get_by_text(re.compile("Set aside by earlier restores")).click()


def backup_menu(page: Any) -> None:
    page.get_by_label(re.compile("^More for")).first.click()


def backup_delete(page: Any) -> None:
    backup_menu(page)
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("textbox").wait_for()


def backup_shown(page: Any) -> None:
    page.get_by_role("button", name="before the migration", exact=True).click()
    page.get_by_role("dialog").get_by_text("1 file").or_(
        page.get_by_role("dialog").get_by_text(re.compile(r"\d+ files"))
    ).wait_for()


def event_shown(page: Any) -> None:
    page.get_by_role("button", name="order.0").first.click()
    page.get_by_role("dialog").wait_for()


def job_shown(page: Any) -> None:
    page.get_by_role("button", name="webhook").first.click()
    page.get_by_role("dialog").get_by_text("WEBHOOK_SECRET_FILE is not set").first.wait_for()


def jobs_retried(page: Any) -> None:
    page.get_by_role("button", name="Retry this one…").click()
    page.get_by_role("dialog").wait_for()


def nothing_more(page: Any) -> None:
    page.locator("main h1").wait_for()


STATES = [
    ("#/overview", nothing_more),
    ("#/overview", plan),
    ("#/overview", question),
    ("#/overview", set_aside),
    ("#/overview?at=1000000000", refused),
    ("#/backups", nothing_more),
    ("#/backups", backup_menu),
    ("#/backups", backup_shown),
    ("#/backups", backup_delete),
    ("#/events", nothing_more),
    ("#/events", event_shown),
    ("#/events?type=nothing", nothing_more),
    ("#/events?compare=1", nothing_more),
    ("#/operations", nothing_more),
    ("#/jobs", nothing_more),
    ("#/jobs?show=dead", job_shown),
    ("#/jobs?show=dead", jobs_retried),
    ("#/kafka", nothing_more),
    ("#/settings", nothing_more),
]


@pytest.mark.parametrize(
    ("colours", "width"),
    [
        ("light", 1280),
        ("dark", 320),
        pytest.param("light", 320, marks=pytest.mark.soak),
        pytest.param("dark", 1280, marks=pytest.mark.soak),
    ],
)
def test_axe_finds_nothing(vault: Service, visit: Callable[..., Visit], axe: str, colours: str, width: int) -> None:
    page = visit(width, 900, color_scheme=colours, reduced_motion="reduce").page
    found = {}
    for address, prepare in STATES:
        page.goto("about:blank")
        page.goto(f"{vault.base}/{address}")
        page.locator("main h1").wait_for()
        page.locator(".skeleton, [aria-busy=true]").first.wait_for(state="detached")
        prepare(page)
        page.evaluate(axe)
        violations = page.evaluate("rules => axe.run(document, {runOnly: rules}).then(run => run.violations)", RULES)
        if violations:
            found[address, prepare.__name__] = [
                (each["id"], [node["html"][:200] for node in each["nodes"]]) for each in violations
            ]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, prepare.__name__)
    assert found == {}


def test_axe_would_find_something(vault: Service, visit: Callable[..., Visit], axe: str) -> None:
    page = visit().page
    page.goto(f"{vault.base}/#/settings")
    page.get_by_role("button", name="Make a token…").evaluate("button => button.replaceChildren()")
    page.evaluate(axe)
    violations = page.evaluate("rules => axe.run(document, {runOnly: rules}).then(run => run.violations)", RULES)
    assert [each["id"] for each in violations] == ["button-name"]
