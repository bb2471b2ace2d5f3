"""The stories of the dashboard in Debian's Firefox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.browser import firefox
from tests.browser.firefox import Firefox
from tests.service import Service

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(firefox.FIREFOX is None, reason="Firefox is not installed: apt-get install firefox-esr"),
]

SETTINGS = {"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"}
IS_THERE = """
const [words] = arguments;
return [...document.querySelectorAll("a, button")].some(each => !each.disabled && each.innerText.trim() === words);
"""
FITS = "return document.documentElement.scrollWidth <= innerWidth"
TAB, ENTER, ESCAPE, PAGE_UP = "\ue004", "\ue007", "\ue00c", "\ue00e"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with firefox.started(tmp_path_factory.mktemp("firefox")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def wide(browser: Firefox) -> None:
    browser.set_width(firefox.WIDE)


def last_sequence(vault: Service) -> int:
    found: int = vault.get("/api/health").json()["store"]["lastSequence"]
    return found


def focused(browser: Firefox) -> str:
    found = browser.run("const e = document.activeElement; return (e.innerText || e.ariaLabel || '').trim()")
    return str(found)


def tab_to(browser: Firefox, words: str) -> None:
    processes.wait_until(lambda: browser.run(IS_THERE, words), f"there is no {words!r}")
    for _ in range(60):
        if focused(browser) == words:
            return
        browser.keys(TAB)
    raise AssertionError(f"Tab does not lead to {words!r}")


def look_at(browser: Firefox, axe_script: str) -> None:
    """What is shown fits and can be used by everybody: dark and narrow, light and wide."""
    for width, colours in ((320, "dark"), (firefox.WIDE, "light")):
        browser.set_width(width)
        browser.run("document.documentElement.dataset.theme = arguments[0]", colours)
        processes.wait_until(lambda: browser.run(FITS), f"the page does not fit {width} pixels")
        assert browser.violations(axe_script) == [], (width, colours)


def test_a_newcomer_backs_up_drags_back_looks_restores_undoes_and_uploads(
    browser: Firefox, axe_script: str, service: Callable[..., Service]
) -> None:
    vault = service(workers=1, environment=SETTINGS)
    browser.goto(f"{vault.base}/")
    browser.see("Ready for the first event.")
    look_at(browser, axe_script)
    vault.post("/api/events", [{"type": "order.created", "subject": f"orders/{n}"} for n in range(20)])
    browser.see("Your data is safe.")
    browser.press("^Backups$")
    browser.press("^Back up now$")
    browser.see("Posts and reads go on meanwhile.")
    look_at(browser, axe_script)
    browser.fill("#label", "first")
    browser.press("^Back up$")
    browser.see("read back and good")
    vault.post("/api/events", [{"type": "order.cancelled"} for n in range(5)])

    browser.press("^Overview$")
    browser.see("up to")
    left, top = browser.run(
        "const box = document.querySelector('.tl-over').getBoundingClientRect(); return [box.left, box.top]"
    )
    browser.drag(".tl-handle", (left + 2, top + 60))
    browser.see("events are set aside")
    look_at(browser, axe_script)
    browser.press("^Look first$")
    browser.see("You look at")
    look_at(browser, axe_script)
    browser.press("^Go back to this moment…$")
    browser.press("^Back to now$")
    browser.press("^Last backup$")
    browser.press("^Go back…$")
    look_at(browser, axe_script)
    browser.press("^Set 5 events aside and go back$")
    browser.see("Restored")
    assert last_sequence(vault) == 20
    browser.press("^Undo…$")
    browser.press("^Bring back 25 events$")
    browser.see("Undone")
    assert last_sequence(vault) == 25

    browser.press("^Backups$")
    browser.see("first")
    browser.fill("input[type=file]", str(Path("tests/fixtures/node/at_the_top.tar.gz").resolve()))
    browser.see("was read to its end and is good")
    look_at(browser, axe_script)
    browser.press("^Events$")
    browser.see("live")
    vault.post("/api/events", {"type": "posted.meanwhile"})
    browser.see("posted.meanwhile")


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service]) -> Service:
    return module_service(workers=1, environment=SETTINGS)


@pytest.mark.parametrize("width", [firefox.WIDE, 320])
def test_by_the_keyboard_alone(browser: Firefox, vault: Service, width: int) -> None:
    browser.set_width(width)
    vault.post("/api/events", [{"type": "order.created"} for n in range(20)])
    vault.post("/api/backup/create")
    vault.post("/api/events", [{"type": "order.cancelled"} for n in range(3)])
    before = last_sequence(vault)
    browser.goto(f"{vault.base}/")
    browser.see("up to")
    tab_to(browser, "Skip to the timeline")
    browser.keys(ENTER)
    assert focused(browser) == "Moment to go back to"
    browser.keys(PAGE_UP)
    browser.see("Back to now")
    browser.keys(ESCAPE)
    tab_to(browser, "Last backup")
    browser.keys(ENTER)
    browser.see("events are set aside")
    tab_to(browser, "Go back…")
    browser.keys(ENTER)
    tab_to(browser, "Set 3 events aside and go back")
    browser.keys(ENTER)
    processes.wait_until(lambda: last_sequence(vault) == before - 3, "it was not restored")


def test_tokens_and_a_service_that_stops_and_returns(
    browser: Firefox, axe_script: str, service: Callable[..., Service]
) -> None:
    first = service(workers=1, environment=SETTINGS)
    first.post("/api/events", {"type": "a"})
    browser.goto(f"{first.base}/")
    browser.see("Your data is safe.")
    first.stop()
    browser.see("EventVault does not answer.")
    look_at(browser, axe_script)
    second = service(workers=1, environment=SETTINGS, port=first.port)
    browser.see("Your data is safe.")
    admin = second.post("/api/tokens", {"name": "admin", "scope": "admin"}).json()["token"]
    read = second.post(
        "/api/tokens", {"name": "auditor", "scope": "read"}, headers={"Authorization": f"Bearer {admin}"}
    ).json()["token"]
    processes.wait_until(lambda: second.get("/api/events").status == 401, "a worker is still open")
    browser.see("asks for a token")
    browser.fill("#token", "ev_nonsense")
    browser.press("^Sign in$")
    browser.see("malformed")
    look_at(browser, axe_script)
    browser.clear("#token")
    browser.fill("#token", read)
    browser.press("^Sign in$")
    browser.see("which may only read")
    second.stop()
