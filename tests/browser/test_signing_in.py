"""A closed service in a browser: tokens that are wrong, that may only some things, and one session for all tabs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.service import Service

pytestmark = pytest.mark.browser

SCOPES = ("admin", "read", "backup", "metrics")


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service]) -> Service:
    """A service with one event and one backup."""
    vault = module_service(environment={"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"})
    vault.post("/api/events", {"type": "order.created"})
    assert vault.post("/api/backup/create", {"label": "first"}).status == 200
    return vault


@pytest.fixture(scope="module")
def tokens(vault: Service) -> Mapping[str, str]:
    """A token of each scope, by its scope; they close the service."""
    found: dict[str, str] = {}
    for scope in SCOPES:
        headers = {"Authorization": f"Bearer {found['admin']}"} if found else {}
        answer = vault.post("/api/tokens", {"name": scope, "scope": scope}, headers=headers)
        assert answer.status in (200, 201), answer.body
        found[scope] = answer.json()["token"]
    return found


def sign_in(page: Any, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def sign_out(page: Any, vault: Service) -> None:
    page.goto(f"{vault.base}/#/settings")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()


def test_a_right_token_opens_all_tabs_and_signing_out_closes_them(
    vault: Service, tokens: Mapping[str, str], visit: Callable[..., Visit]
) -> None:
    one = visit().page
    one.goto(f"{vault.base}/")
    sign_in(one, "ev_nonsense")
    one.get_by_role("alert").get_by_text("malformed", exact=False).wait_for()
    other = one.context.new_page()
    other.goto(f"{vault.base}/#/backups")
    other.get_by_label("Token").wait_for()

    sign_in(one, tokens["admin"])
    one.get_by_role("heading", name="Your data is safe.").wait_for()
    other.get_by_role("button", name="first", exact=True).wait_for()
    one.reload()
    one.get_by_role("heading", name="Your data is safe.").wait_for()
    third = one.context.new_page()
    third.goto(f"{vault.base}/#/backups")
    third.get_by_label(re.compile("^More for .*_first")).click()
    with third.expect_download() as download:
        third.get_by_role("link", name="Download").click()
    assert download.value.failure() is None

    sign_out(other, vault)
    one.get_by_label("Token").wait_for()
    third.get_by_label("Token").wait_for()
    sign_in(other, tokens["read"])
    one.get_by_role("heading", name="Your data is safe.").wait_for()
    third.get_by_role("button", name="first", exact=True).wait_for()


def test_a_token_that_may_only_read_sees_all_and_is_told_why_buttons_are_off(
    vault: Service, tokens: Mapping[str, str], visit: Callable[..., Visit]
) -> None:
    page = visit().page
    page.goto(f"{vault.base}/#/backups")
    sign_in(page, tokens["read"])
    page.get_by_text("which may only read", exact=False).wait_for()
    button = page.get_by_role("button", name="Back up now")
    assert button.is_disabled()
    assert "scope backup" in button.get_attribute("title")
    assert page.get_by_role("button", name="Restore first…").is_disabled()
    assert page.locator("input[type=file]").is_disabled()
    page.get_by_role("link", name="Overview", exact=True).click()
    page.get_by_role("button", name="Last backup").click()
    page.get_by_role("button", name="Nothing would change").wait_for()
    page.get_by_role("link", name="Settings", exact=True).click()
    page.get_by_text("JOURNAL_INTERVAL").wait_for()
    assert page.get_by_role("heading", name="Audit").count() == 0


def test_a_token_for_backups_makes_one_and_one_for_metrics_opens_no_page(
    vault: Service, tokens: Mapping[str, str], visit: Callable[..., Visit]
) -> None:
    page = visit().page
    page.goto(f"{vault.base}/")
    sign_in(page, tokens["metrics"])
    page.get_by_role("alert").get_by_text("metrics alone", exact=False).wait_for()
    sign_in(page, tokens["backup"])
    page.get_by_role("button", name="Back up now").click()
    page.get_by_role("button", name="Back up", exact=True).click()
    page.get_by_text("read back and good", exact=False).wait_for()
    assert page.get_by_role("link", name="Events", exact=True).count() == 0


def test_too_many_wrong_tokens_are_told_how_long_to_wait_and_a_right_one_passes(
    vault: Service, tokens: Mapping[str, str], visit: Callable[..., Visit]
) -> None:
    page = visit().page
    page.goto(f"{vault.base}/")
    page.get_by_label("Token").wait_for()
    for _ in range(12):
        vault.post("/api/session", {"token": "ev_nonsense"})
    sign_in(page, "ev_nonsense")
    page.get_by_role("alert").get_by_text("too many wrong ones", exact=False).wait_for()
    sign_in(page, tokens["read"])
    page.get_by_role("heading", name="Your data is safe.").wait_for()
