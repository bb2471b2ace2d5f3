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
from tests.browser.conftest import Visit, until
from tests.stores import folders_beneath

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("docs")
    app = create_app(load(folders_beneath(folder)), MemoryStore(folder))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_docs_show_the_api_and_ask_nobody_else(address: str, visit: Callable[..., Visit]) -> None:
    docs = visit()

    docs.page.goto(f"{address}/docs/api")
    docs.page.get_by_text("Back up now").first.wait_for()

    assert docs.page.get_by_text("Append one event or several").count() > 0
    assert [url for url in docs.asked if not url.startswith((address, "data:"))] == []
    assert docs.said == []
    until(docs.page, "document.querySelector('rapi-doc').shadowRoot.textContent.includes('/api/backup/restore')")


FOUND_FIRST = {
    "restore": "/docs/restore-at-3-am",
    "undo": "/docs/undo",
    "Kafka offset": "/docs/kafka",
    "tls": "/docs/tls",
}
"""Words, and the page that says how it is done."""


def test_the_search_finds_the_page_first_that_says_how(address: str, visit: Callable[..., Visit]) -> None:
    docs = visit()
    for words, first in FOUND_FIRST.items():
        docs.page.goto(f"{address}/docs/")
        docs.page.keyboard.press("/")
        docs.page.keyboard.type(words)
        found = docs.page.locator("ol.found a")
        found.first.wait_for()
        assert str(found.first.get_attribute("href")).partition("#")[0] == first, words
        found.first.click()
        docs.page.wait_for_url(f"**{first}*")
        assert docs.said == [], words
