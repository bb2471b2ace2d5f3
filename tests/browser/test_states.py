"""Every state of the dashboard: it says what it must, axe finds nothing in it, it fits, and it has a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.browser import axe, pictures
from tests.browser.conftest import WITHIN, Visit, until
from tests.browser.states import STATES, State
from tests.browser.world import World
from tests.service import Service

pytestmark = pytest.mark.browser

FORMS = [("light", 1280), ("dark", 320), ("light", 320), ("dark", 1280)]


def cases() -> Iterator[Any]:
    """Every state in every form. The short form of the tests has each state once, wide and narrow by turns."""
    for number, state in enumerate(STATES):
        for form, (colours, width) in enumerate(FORMS):
            marks = [] if form == number % 2 else [pytest.mark.soak]
            yield pytest.param(state, colours, width, marks=marks, id=f"{state.name}-{colours}-{width}")


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service]) -> Service:
    return module_service(workers=1, environment={"AUTO_BACKUP_ENABLED": "false"})


@pytest.fixture(scope="module")
def page_of(chromium: Any) -> Iterator[Callable[[str, int], Any]]:
    """Call it for the page of a form, which all states share: it has a process, and all files in its cache."""
    pages: dict[tuple[str, int], Any] = {}

    def page(colours: str, width: int) -> Any:
        if (colours, width) not in pages:
            context = chromium.new_context(
                viewport={"width": width, "height": 900}, color_scheme=colours, reduced_motion="reduce",
                timezone_id="Europe/Berlin", locale="en-GB",
            )  # fmt: skip
            context.set_default_timeout(WITHIN)
            pages[colours, width] = context.new_page()
        return pages[colours, width]

    yield page
    for each in pages.values():
        each.context.close()


@contextmanager
def leaving_nothing_behind(page: Any) -> Iterator[list[str]]:
    """Yield what the console of the page says. Whoever is here next finds neither a session nor a setting."""
    said: list[str] = []
    listeners = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        yield said
    finally:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        if page.url != "about:blank":
            page.evaluate("localStorage.clear(); sessionStorage.clear()")
        page.goto("about:blank")
        page.unroute_all()
        page.context.clear_cookies()


def open_state(page: Any, vault: Service, state: State) -> None:
    """Open the page in that state, and wait until all of it is there."""
    here = World(vault)
    state.change(here)
    here.install(page)
    page.goto(f"{vault.base}/{state.address}")
    page.locator("main h1").wait_for()
    state.reach(page)
    page.get_by_text(state.words, exact=False).first.wait_for()
    until(page, "document.querySelectorAll('.skeleton, main [aria-busy=true]').length === 0")
    assert state.words in page.locator("body").text_content()  # letter by letter


SCROLLED_SIDEWAYS = """[...document.querySelectorAll("main *, dialog *")]
    .filter((each) => each.scrollWidth > each.clientWidth && /auto|scroll/.test(getComputedStyle(each).overflowX))
    .filter((each) => !each.matches("pre")).map((each) => each.outerHTML.slice(0, 200))"""
"""What shows a part only to whoever scrolls it sideways. JSON may be that wide."""


def violations(page: Any, script: str) -> list[Any]:
    page.evaluate(script)
    found: list[Any] = page.evaluate(axe.FIND, axe.RULES)
    return found


@pytest.mark.parametrize(("state", "colours", "width"), [*cases()])
def test_a_state_says_what_it_must_and_axe_finds_nothing(
    vault: Service, page_of: Callable[[str, int], Any], axe_script: str, state: State, colours: str, width: int
) -> None:
    page = page_of(colours, width)
    with leaving_nothing_behind(page) as said:
        open_state(page, vault, state)
        if folder := pictures.folder():
            pictures.take(page, folder / f"{state.name}-{colours}-{width}.webp")
        assert violations(page, axe_script) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(SCROLLED_SIDEWAYS) == []
    assert [text for text in said if "Content Security Policy" in text or "Error:" in text] == []


@pytest.mark.parametrize("replay", [False, True])
def test_a_restore_to_a_moment_reads_kafka_again_if_that_is_chosen(
    vault: Service, visit: Callable[..., Visit], replay: bool
) -> None:
    page = visit().page
    open_state(page, vault, next(state for state in STATES if state.name == "kafka-restore"))
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("checkbox").set_checked(replay)
    with page.expect_request("**/api/backup/restore?async=true*") as sent:
        dialog.get_by_role("button", name=re.compile("go back$")).click()
    assert sent.value.post_data_json.get("replay", False) is replay


def test_axe_would_find_something(vault: Service, visit: Callable[..., Visit], axe_script: str) -> None:
    page = visit().page
    page.goto(f"{vault.base}/#/settings")
    page.get_by_role("button", name="Make a token…").evaluate("button => button.replaceChildren()")
    assert [rule for rule, _ in violations(page, axe_script)] == ["button-name"]
