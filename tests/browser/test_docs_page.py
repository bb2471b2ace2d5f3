"""`/docs` in a real browser: it renders offline, under `default-src 'self'`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from app import create_app
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore
from tests.browser.conftest import Visit

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


def test_the_docs_show_the_api_and_ask_nobody_else(address: str, visit: Callable[..., Visit]) -> None:
    docs = visit()

    docs.page.goto(f"{address}/docs/api")
    docs.page.get_by_text("Back up now").first.wait_for(timeout=60_000)

    assert docs.page.get_by_text("Append one event or several").count() > 0
    assert [url for url in docs.asked if not url.startswith((address, "data:"))] == []
    assert docs.said == []
    shown = docs.page.evaluate("document.querySelector('rapi-doc').shadowRoot.textContent")
    assert shown.count("/api/backup/restore")


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("restore", "/docs/restore-at-3-am"),
        ("undo", "/docs/undo"),
        ("Kafka offset", "/docs/kafka"),
        ("tls", "/docs/tls"),
    ],
)
def test_the_search_finds_the_page_first_that_says_how(
    address: str, visit: Callable[..., Visit], words: str, first: str
) -> None:
    docs = visit()
    docs.page.goto(f"{address}/docs/")
    docs.page.keyboard.press("/")
    docs.page.keyboard.type(words)
    found = docs.page.locator("ol.found a")
    found.first.wait_for(timeout=60_000)
    assert str(found.first.get_attribute("href")).partition("#")[0] == first
    found.first.click()
    docs.page.wait_for_url(f"**{first}*")
    assert docs.said == []
