"""The page of jobs, before a real service with its dispatcher and its worker."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.browser.conftest import Visit
from tests.service import Service

pytestmark = pytest.mark.browser

MODULE = """
from worker.jobs import Fail, Job, job

@job("bill")
def bill(job: Job) -> None:
    print("looking for the customer")
    raise Fail("there is no customer 7")
"""


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder: Path = tmp_path_factory.mktemp("handlers")
    (folder / "bills.py").write_text(MODULE)
    settings = {"JOBS_ENABLED": "true", "WORKER_JOBS": "bills", "PYTHONPATH": str(folder)}
    return module_service(environment={"AUTO_BACKUP_ENABLED": "false", **settings})


def test_dead_jobs_are_seen_understood_and_retried(vault: Service, visit: Callable[..., Visit]) -> None:
    for name in ("bill-1", "bill-2"):
        assert vault.post("/api/jobs", {"type": "bill", "id": name}).status == 201
    processes.wait_until(lambda: len(vault.get("/api/jobs?state=dead").json()["jobs"]) == 2, "the jobs are not dead")
    vault.post("/api/jobs", {"type": "echo", "id": "later", "delay": 3600})
    page = visit().page
    page.goto(f"{vault.base}/#/jobs")
    page.get_by_role("button", name="Cancel later…").wait_for()
    page.get_by_role("button", name="Dead 2").click()
    page.get_by_text("There is no customer 7.").first.wait_for()

    page.get_by_role("row").filter(has_text="bill-1").get_by_role("button", name="bill", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("looking for the customer").wait_for()
    dialog.get_by_role("button", name="Close").click()

    vault.post("/api/jobs", {"type": "bill", "id": "bill-3"})
    page.get_by_role("button", name=re.compile("Retry these [23]…")).click()
    dialog.get_by_text("bill-1").wait_for()
    dialog.get_by_role("button", name=re.compile("Retry these [23]$")).click()
    page.get_by_text(re.compile("^[23] changed")).wait_for()
    attempts = lambda: vault.get("/api/jobs?id=bill-1").json()["job"]["attempt"]  # noqa: E731
    processes.wait_until(lambda: attempts() == 2, "it was not tried again")


def test_a_job_is_cancelled_and_a_type_paused(vault: Service, visit: Callable[..., Visit]) -> None:
    vault.post("/api/jobs", {"type": "echo", "id": "waits", "delay": 3600})
    here = visit()
    page = here.page
    page.goto(f"{vault.base}/#/jobs")
    page.get_by_role("button", name="Cancel waits…").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Tab")  # from Close, which has the focus, to the verb
    page.keyboard.press("Enter")
    processes.wait_until(
        lambda: vault.get("/api/jobs?id=waits").json()["job"]["state"] == "cancelled", "it is not cancelled"
    )
    page.get_by_role("button", name="Pause echo").click()
    page.get_by_role("button", name="Resume echo").wait_for()
    assert [each["type"] for each in vault.get("/api/jobs/types").json()["types"] if each["paused"]] == ["echo"]
    page.get_by_role("button", name="Resume echo").click()
    page.get_by_role("button", name="Pause echo").wait_for()
    assert here.said == []
