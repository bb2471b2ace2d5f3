"""`/docs` in a real browser: it renders offline, under `default-src 'self'`."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from app import create_app
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"

pytestmark = pytest.mark.browser


@pytest.fixture
def address(settings_environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(load(settings_environment), MemoryStore(tmp_path)), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page() -> Iterator[Any]:
    missing = [what for what, there in (("playwright", find_spec("playwright")), (CHROMIUM, Path(CHROMIUM).exists()))
               if not there]  # fmt: skip
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{' and '.join(missing)} must be there where CI=true")
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def test_the_docs_show_the_api_and_ask_nobody_else(address: str, page: Any) -> None:
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))

    page.goto(f"{address}/docs")
    page.get_by_text("Back up now").first.wait_for(timeout=60_000)

    assert page.get_by_text("Append one event or several").count() > 0
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert said == []
    assert page.evaluate("document.querySelector('rapi-doc').shadowRoot.textContent").count("/api/backup/restore")


def test_the_front_page_leads_to_the_docs(address: str, page: Any) -> None:
    page.goto(address)
    assert page.url == f"{address}/docs"
