"""Real Chromium, and pages that remember what they asked for and what their console said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.browser import axe

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "/usr/bin/chromium"
"""The first is the same engine without the windows, menus and extensions around it: half the work for a page."""
WITHIN = 90_000
"""Milliseconds that a page has for each step."""
BUSY = "the server responded with a status of 503"
"""Words of Chromium for an answer after which a page asks again: a busy service may give it at any time."""


def until(page: Any, condition: str, argument: Any = None) -> None:
    """Wait for an expression, or a function of `argument`. The policy of the page forbids `wait_for_function`."""
    processes.wait_until(lambda: page.evaluate(condition, argument), f"{condition} does not hold", WITHIN / 1000)


@dataclass
class Visit:
    """A page of a browser of its own. asked: addresses. said: what its console said, errors included, but not BUSY."""

    page: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def axe_script() -> str:
    return axe.source()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    missing = [what for what, there in (("playwright", find_spec("playwright")), (CHROMIUM, Path(CHROMIUM).exists()))
               if not there]  # fmt: skip
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{' and '.join(missing)} must be there where CI=true")
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Call it for a page in a browser context of its own, which knows nothing of the others."""
    contexts = []

    def open_page(width: int = 1280, height: int = 900, **options: Any) -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(WITHIN)
        contexts.append(context)
        visit = Visit(context.new_page())
        visit.page.on("request", lambda request: visit.asked.append(request.url))
        visit.page.on("console", lambda message: BUSY in message.text or visit.said.append(message.text))
        visit.page.on("pageerror", lambda error: visit.said.append(str(error)))
        return visit

    yield open_page
    for context in contexts:
        context.close()
