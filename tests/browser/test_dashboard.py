"""The dashboard in a real browser, before a real service: each story that somebody would go through."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests import processes
from tests.browser.conftest import Visit, until
from tests.service import Service

pytestmark = pytest.mark.browser

NODE_ARCHIVE = "tests/fixtures/node/at_the_top.tar.gz"
BATCHES, BATCH = 4, 50
EVENTS = BATCHES * BATCH


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service]) -> Service:
    return module_service(environment={"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"})


def post_all(vault: Service) -> None:
    """Let the registry hold EVENTS events, and a backup in their middle, whatever the tests before did."""
    for name in (backup["name"] for backup in vault.get("/api/backup/list").json()["backups"]):
        vault.request("DELETE", f"/api/backup/{name}?force=true")
    have = vault.get("/api/health").json()["store"]["lastSequence"]
    if have < EVENTS:
        for batch in range(BATCHES):
            events = [
                {"type": f"order.{'paid' if n % 2 else 'created'}", "id": f"{batch}-{n}", "data": {"n": n}}
                for n in range(BATCH)
            ]
            assert vault.post("/api/events", events).status in (200, 201)
    assert vault.post("/api/backup/create", {"label": "middle"}).status == 200
    assert vault.post("/api/events", {"type": "order.cancelled", "subject": "orders/last"}).status == 201


def last_sequence(vault: Service) -> int:
    found: int = vault.get("/api/health").json()["store"]["lastSequence"]
    return found


def heading(page: Any, name: str | re.Pattern[str]) -> Any:
    return page.get_by_role("heading", name=name).first


def test_a_newcomer_posts_backs_up_goes_back_and_undoes(
    service: Callable[..., Service], visit: Callable[..., Visit]
) -> None:
    vault = service(environment={"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"})
    here = visit()
    page = here.page
    page.goto(f"{vault.base}/")
    heading(page, "Ready for the first event.").wait_for()
    assert "curl -d" in page.locator("pre").inner_text()

    vault.post("/api/events", [{"type": "order.created", "subject": f"orders/{n}"} for n in range(20)])
    heading(page, "Your data is safe.").wait_for()
    page.get_by_text("there is no backup to carry away yet").wait_for()

    page.get_by_role("link", name="Backups", exact=True).click()
    page.get_by_role("button", name="Back up now").click()
    page.get_by_label("Label").fill("first")
    page.get_by_role("button", name="Back up", exact=True).click()
    page.get_by_text("20 events", exact=False).first.wait_for()
    page.get_by_role("button", name="first", exact=True).wait_for()

    vault.post("/api/events", [{"type": "order.cancelled", "subject": f"orders/{n}"} for n in range(5)])
    page.get_by_role("button", name="Restore first…").click()
    page.get_by_role("button", name="Set 5 events aside and go back").click()
    page.get_by_text(re.compile("^Restored")).wait_for()
    assert last_sequence(vault) == 20

    page.get_by_role("button", name="Undo…").click()
    page.get_by_role("button", name="Bring back 25 events").click()
    page.get_by_text(re.compile("^Undone")).wait_for()
    assert last_sequence(vault) == 25

    page.get_by_role("button", name="Redo…").click()
    page.get_by_role("button", name="Bring back 20 events").click()
    processes.wait_until(lambda: last_sequence(vault) == 20, "the redo is not there")

    page.get_by_role("link", name="Settings", exact=True).click()
    page.get_by_role("button", name="Make a token…").click()
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Make it").click()
    page.get_by_text("This token is not shown again").wait_for()
    processes.wait_until(lambda: vault.get("/api/events").status == 401, "a worker is still open")
    page.get_by_text("Signed in", exact=True).wait_for()
    page.get_by_role("row").filter(has_text="token-create").get_by_text("done").wait_for()
    page.get_by_role("row").filter(has_text="undo").get_by_text("0 events set aside").first.wait_for()
    assert here.said == []
    assert [url for url in here.asked if not url.startswith(vault.base)] == []


def choose_by_keys(page: Any) -> None:
    """Choose the moment of the backup, with nothing but the keyboard."""
    page.get_by_role("slider", name="Moment to go back to").focus()
    page.keyboard.press("PageUp")


def test_by_the_keyboard_alone(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    page = visit().page
    page.goto(f"{vault.base}/")
    slider = page.get_by_role("slider", name="Moment to go back to")
    slider.wait_for()
    page.keyboard.press("Tab")  # to the content
    page.keyboard.press("Tab")  # to the timeline
    page.keyboard.press("Enter")
    assert slider.evaluate("node => node === document.activeElement")
    assert slider.get_attribute("aria-valuetext") == "now: nothing is chosen"

    page.keyboard.press("Home")
    page.get_by_role("button", name="Go back…").wait_for()
    heading(page, re.compile("If you go back to")).wait_for()
    assert "at=" in page.url
    page.get_by_role("button", name="Go back…").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert dialog.get_by_role("button", name="Cancel").evaluate("node => node === document.activeElement")
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert last_sequence(vault) > 0


def test_by_a_finger_on_a_narrow_screen(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    before = last_sequence(vault)
    page = visit(320, 700, has_touch=True, is_mobile=True).page
    page.goto(f"{vault.base}/")
    heading(page, "Your data is safe.").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.get_by_role("button", name="Last backup").tap()
    page.get_by_role("button", name="Go back…").tap()
    dialog = page.get_by_role("dialog")
    behind = int(dialog.locator("dd").first.inner_text().replace(",", ""))
    dialog.get_by_role("button", name=re.compile("go back", re.IGNORECASE)).tap()
    page.get_by_text(re.compile("^Restored")).wait_for()
    assert last_sequence(vault) == before - behind


def test_a_handle_that_is_dragged_shows_what_would_happen_and_changes_nothing(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    post_all(vault)
    before = vault.get("/api/health").json()["store"]
    page = visit().page
    page.goto(f"{vault.base}/")
    page.get_by_text(re.compile("^up to")).wait_for()
    box = page.locator(".tl-over").bounding_box()
    handle = page.locator(".tl-handle").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 60, steps=5)
    page.mouse.move(box["x"] + 1, box["y"] + 60, steps=5)
    page.mouse.up()
    numbers = page.locator(".plan-numbers")
    numbers.get_by_text("events are set aside").wait_for()
    aside = numbers.locator("dd").first  # on the way there are plans of other moments
    wanted = str(before["lastSequence"])
    processes.wait_until(lambda: aside.inner_text().replace(",", "") == wanted, f"{wanted} events are not set aside")
    assert vault.get("/api/health").json()["store"]["generation"] == before["generation"]
    page.go_back()
    page.get_by_role("button", name="Go back…").wait_for(state="detached")


def test_a_moment_that_cannot_be_had_leads_to_the_nearest_one(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    page = visit().page
    page.goto(f"{vault.base}/#/overview?at=1000000000")
    page.get_by_role("alert").get_by_text("that moment is before the registry began", exact=False).wait_for()
    page.get_by_role("link", name=re.compile("Go to the nearest moment")).click()
    heading(page, re.compile("If you go back to")).wait_for()


def test_a_backup_of_the_node_system_is_dropped_and_restored(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    page = visit().page
    page.goto(f"{vault.base}/#/backups")
    page.locator("input[type=file]").set_input_files(NODE_ARCHIVE)
    page.get_by_text("was read to its end and is good").wait_for()
    page.get_by_role("button", name="uploaded", exact=True).wait_for()
    assert "at_the_top.tar.gz" in [backup["name"] for backup in vault.get("/api/backup/list").json()["backups"]]


def test_a_file_that_is_no_archive_is_refused_under_the_name_that_it_has(
    vault: Service, visit: Callable[..., Visit], tmp_path: Any
) -> None:
    (tmp_path / "holiday.tar.gz").write_bytes(b"a photo")
    page = visit().page
    page.goto(f"{vault.base}/#/backups")
    page.locator("input[type=file]").set_input_files(tmp_path / "holiday.tar.gz")
    alert = page.get_by_role("alert")
    alert.get_by_text("holiday.tar.gz").first.wait_for()
    assert ".upload" not in alert.inner_text()


def test_a_backup_is_deleted_only_once_its_name_is_typed(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    name = vault.get("/api/backup/list").json()["backups"][0]["name"]
    page = visit().page
    page.goto(f"{vault.base}/#/backups")
    page.get_by_label(f"More for {name}").click()
    page.get_by_role("button", name="Delete…").click()
    remove = page.get_by_role("button", name=re.compile("^Delete .* for good"))
    remove.wait_for()
    assert remove.is_disabled()
    page.get_by_role("dialog").get_by_text("last good backup").wait_for()
    page.get_by_role("textbox").fill(name)
    remove.click()
    page.get_by_text(f"{name} is deleted.").wait_for()
    assert vault.get("/api/backup/list").json()["backups"] == []


def test_a_backup_is_pinned_verified_and_a_restore_of_it_is_tried(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    name = vault.get("/api/backup/list").json()["backups"][0]["name"]
    page = visit().page
    page.goto(f"{vault.base}/#/backups")
    more = page.get_by_label(f"More for {name}")
    more.click()
    page.get_by_role("button", name="Pin…").click()
    page.get_by_label("Reason").fill("audit <b>2026</b>")
    page.get_by_role("dialog").get_by_role("button", name="Pin", exact=True).click()
    page.get_by_text("pinned", exact=True).wait_for()
    assert vault.get(f"/api/backup/{name}").json()["backup"]["pin"]["reason"] == "audit <b>2026</b>"
    more.click()
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("is good: it was read to its end", exact=False).wait_for()
    more.click()
    page.get_by_role("button", name="Try a restore").click()
    page.get_by_text("A restore was tried beside the data", exact=False).wait_for()
    page.get_by_role("link", name="Operations", exact=True).click()
    page.get_by_text("compared and equal", exact=False).first.wait_for()


def test_the_events_are_live_filtered_and_shown_whole(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    page = visit().page
    page.goto(f"{vault.base}/#/events")
    page.get_by_role("button", name="order.cancelled").first.wait_for()
    hostile = {"type": "<img src=x onerror=alert(1)>", "subject": "\u202eevil", "data": {"text": "x" * 5000}}
    vault.post("/api/events", hostile)
    page.get_by_role("button", name="<img src=x onerror=alert(1)>").click()
    page.get_by_role("dialog").get_by_text("onerror", exact=False).first.wait_for()
    assert page.locator("img[src=x]").count() == 0
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_label("Type").fill("order.cancelled")
    page.get_by_role("button", name="order.paid").first.wait_for(state="detached")
    assert "type=order.cancelled" in page.url


def test_a_moment_is_looked_at_compared_and_brought_back(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    vault.post("/api/events", {"type": "only.now"})
    page = visit().page
    page.goto(f"{vault.base}/")
    page.get_by_role("button", name="Last backup").click()
    page.get_by_role("link", name="Look first").click()
    page.get_by_text("You look at").wait_for()
    page.locator("tr").first.wait_for()
    page.locator("tr").filter(has_text="only.now").wait_for(state="detached")
    then = page.url.split("asOf=")[1]
    page.get_by_role("button", name="Bring these back…").click()
    page.get_by_role("button", name="Bring them back").click()
    page.get_by_text("were there already", exact=False).wait_for()

    page.get_by_role("button", name="Compare two moments").click()
    page.get_by_label("From").fill(re.sub("%3A", ":", then))
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("only in the second").wait_for()


def test_what_runs_is_seen_with_its_progress_in_another_tab(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    page = visit().page
    page.goto(f"{vault.base}/#/operations")
    heading(page, "What ran").wait_for()
    assert vault.post("/api/backup/create", {"label": "elsewhere"}).status == 200
    row = page.get_by_role("row").filter(has_text="Backing up").first
    row.get_by_text("done in", exact=False).wait_for()


def test_the_settings_say_what_they_mean_and_the_zone_is_chosen(vault: Service, visit: Callable[..., Visit]) -> None:
    post_all(vault)
    page = visit(timezone_id="Europe/Berlin").page
    page.goto(f"{vault.base}/#/settings")
    row = page.get_by_role("row").filter(has_text="JOURNAL_INTERVAL")
    row.get_by_text("environment").wait_for()
    row.get_by_text("default: 1000").wait_for()
    page.get_by_text("shown in CE", exact=False).wait_for()  # CET or CEST
    page.get_by_label("Find a setting").fill("journal segments")
    page.get_by_role("row").filter(has_text="WEB_CONCURRENCY").wait_for(state="detached")
    row.get_by_text("every 0.1 s").wait_for()
    page.get_by_role("button", name="UTC", exact=True).click()
    page.get_by_role("button", name="Dark", exact=True).click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("link", name="Overview", exact=True).click()
    page.get_by_text("Times are UTC", exact=False).wait_for()
    page.reload()
    page.get_by_text("Times are UTC", exact=False).wait_for()
    colours = page.evaluate("[document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]")
    assert colours == ["dark", "rgb(12, 18, 16)"]
    cookies = {each["name"]: (each["value"], each["sameSite"]) for each in page.context.cookies()}
    assert cookies["eventvault-theme"] == ("dark", "Lax")  # a link of another site opens the page in its colours too


def test_a_restore_that_is_refused_for_another_shows_that_one_and_no_answer_is_no_failure(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    post_all(vault)
    page = visit().page
    page.goto(f"{vault.base}/")
    page.get_by_role("button", name="Last backup").click()
    page.get_by_role("button", name="Go back…").click()
    restore = page.get_by_role("dialog").get_by_role("button", name=re.compile("go back", re.IGNORECASE))
    running = {
        "id": "a",
        "kind": "restore",
        "startedBy": "shell",
        "startedAt": "2026-01-01T00:00:00Z",
        "progress": 0.62,
    }
    refused = {"success": False, "code": "restore_running", "error": "a restore is under way", "hint": "wait"}
    page.route("**/api/operations?state=running*", lambda route: route.fulfill(json={"operations": [running]}))
    page.route("**/api/backup/restore?async=true", lambda route: route.fulfill(status=409, json=refused))
    restore.click()
    page.get_by_role("alert").get_by_text("restore by shell", exact=False).wait_for()
    page.get_by_role("alert").get_by_text("62 %", exact=False).wait_for()

    page.unroute("**/api/backup/restore?async=true")
    page.unroute("**/api/operations?state=running*")
    page.route("**/api/backup/restore?async=true", lambda route: route.abort())
    restore.click()
    page.get_by_role("alert").get_by_text("nothing was changed", exact=False).wait_for()


def test_the_page_recovers_by_itself_when_the_service_returns(
    service: Callable[..., Service], visit: Callable[..., Visit]
) -> None:
    first = service(workers=1)
    first.post("/api/events", {"type": "a"})
    page = visit().page
    page.goto(f"{first.base}/")
    heading(page, "Your data is safe.").wait_for()
    first.stop()
    heading(page, "EventVault does not answer.").wait_for()
    until(page, "document.title.startsWith('Away')")  # it is set once the page is painted
    page.get_by_text("Goes back").wait_for()
    second = service(workers=1, port=first.port)
    heading(page, "Your data is safe.").wait_for()
    until(page, "!document.title.startsWith('Away')")
    second.stop()


def test_the_service_s_answers_reach_the_page_compressed_and_its_files_are_asked_for_once(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    post_all(vault)
    here = visit()
    here.page.goto(f"{vault.base}/")
    page = here.page
    heading(page, "Your data is safe.").wait_for()
    first = len([url for url in here.asked if "/ui/" in url])
    page.goto("about:blank")
    page.goto(f"{vault.base}/")
    heading(page, "Your data is safe.").wait_for()
    entries = "performance.getEntriesByType('resource').filter(entry => entry.name.includes('/ui/'))"
    sizes = page.evaluate(f"{entries}.map(entry => entry.transferSize)")
    assert first > 20
    assert sizes
    assert set(sizes) == {0}  # all of them came from the browser's cache


JUDGED = [
    ({"store": {"state": "unreachable"}}, "away", "The event store does not answer"),
    ({"status": "restoring"}, "busy", "Starting: events are being restored"),
    ({"journal": {"state": "ok", "secondsAtRisk": 11, "intervalMs": 1000}}, "bad", "New events are at risk"),
    ({"journal": {"state": "ok", "secondsAtRisk": 11, "intervalMs": 5000}}, "good", "Your data is safe"),
    ({"backup": {"available": False, "count": 0}}, "bad", "The backups cannot be reached"),
    ({"disk": {"backups": {"daysLeft": 3}, "storage": {"daysLeft": None}}}, "care", "Your data is safe, for now"),
    ({"problems": [{"code": "new_code", "message": "something new"}]}, "care", "Your data is safe"),
    ({"backup": {"available": True, "count": 0}}, "care", "Your data is safe"),
    ({}, "good", "Your data is safe"),
]
HEALTHY = {
    "status": "ok",
    "problems": [],
    "store": {"state": "serving", "lastSequence": 3},
    "backup": {"available": True, "count": 2},
    "journal": {"state": "ok", "secondsAtRisk": 0, "intervalMs": 1000},
    "jobs": {"restore": {"running": False}},
    "window": {
        "oldest": {"time": "2026-01-01T00:00:00Z", "sequence": 0},
        "newest": {"time": "2026-01-02T00:00:00Z", "sequence": 3},
    },
}


def test_the_sentence_is_that_of_the_first_rule_that_holds(vault: Service, visit: Callable[..., Visit]) -> None:
    page = visit().page
    page.goto(f"{vault.base}/")
    module = page.locator("link[rel=modulepreload][href$='/safety.js']").get_attribute("href")
    for difference, tone, headline in JUDGED:
        judge = f"async () => (await import('{module}')).safety({json.dumps({**HEALTHY, **difference})})"
        state = page.evaluate(judge)
        assert (state["tone"], state["headline"]) == (tone, headline), difference
