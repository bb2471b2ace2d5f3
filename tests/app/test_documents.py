"""The documents as the service shows them: every page, every link, every anchor, and the search."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.docs import site
from eventvault.settings import PROJECT

DOCUMENTS = site.load(PROJECT)
PAGES = sorted(name for name in DOCUMENTS.names if not name.startswith("adr/0"))


def test_docs_lead_to_the_index_and_the_reference_has_an_address_of_its_own(client: FlaskClient) -> None:
    moved = client.get("/docs")
    assert (moved.status_code, moved.headers["Location"].endswith("/docs/")) == (308, True)
    assert "rapi-doc" in client.get("/docs/api").get_data(as_text=True)
    assert "unsafe-inline" not in client.get("/docs/").headers["Content-Security-Policy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_shown_and_its_links_lead_somewhere(client: FlaskClient, name: str) -> None:
    address = "/docs/" if name == site.INDEX else f"/docs/{name}"
    answer = client.get(address)
    assert answer.status_code == 200
    html = answer.get_data(as_text=True)
    assert "<h1" in html
    for link in set(re.findall(r'href="([^"]*)"', html)):
        if link.startswith("/docs/") and "static" not in link:
            check_link(client, link)
        assert link != "#", f"a link of {name} leads nowhere"


def check_link(client: FlaskClient, link: str) -> None:
    path, _, anchor = link.partition("#")
    name = path.removeprefix("/docs/") or site.INDEX
    if name == "api":  # in the head of each page
        return
    page = DOCUMENTS.page(name)
    assert page is not None, f"{link} is no page"
    assert not anchor or f'id="{anchor}"' in page.html, f"{link} has no such heading"


def test_the_index_has_every_page(client: FlaskClient) -> None:
    listed = {link.address for group in DOCUMENTS.groups for link in group.links}
    assert [name for name in PAGES if name != site.INDEX and f"/docs/{name}" not in listed] == []


@pytest.mark.parametrize(
    ("word", "page"), [("restore", "undo"), ("undo", "undo"), ("kafka offset", "kafka"), ("tokens", "access")]
)
def test_the_search_has_the_sections_that_people_look_for(client: FlaskClient, word: str, page: str) -> None:
    found = client.get("/docs/search.json")
    assert client.get("/docs/search.json", headers={"If-None-Match": found.headers["ETag"]}).status_code == 304
    sections = [section for section in found.json if section["name"] == page]
    words = word.split()
    assert any(all(each in f"{section['title']} {section['text']}".lower() for each in words) for section in sections)


@pytest.mark.slow
def test_each_picture_is_shown_somewhere_small_and_served(client: FlaskClient) -> None:
    shown: set[str] = set()
    for name in DOCUMENTS.names:
        page = DOCUMENTS.page(name)
        assert page is not None
        shown |= set(re.findall(r'src="/docs/pictures/([^"]*)"', page.html))
        assert not re.search(r'<img src="(?!/docs/pictures/)', page.html), f"{name} shows a picture from elsewhere"
    assert shown == set(DOCUMENTS.pictures)
    for name, path in DOCUMENTS.pictures.items():
        answer = client.get(f"/docs/pictures/{name}")
        assert (answer.status_code, answer.content_type) == (200, "image/webp")
        assert answer.data[8:12] == b"WEBP"
        assert len(answer.data) <= 100_000, f"{path} is too large for a page"
    assert client.get("/docs/pictures/none.webp").status_code == 404


def test_markup_in_a_document_is_text(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(
        "# A <script>alert(1)</script>\n\n[x](javascript:alert(1)) <img src=x>\n"
    )
    page = site.load(tmp_path).page("index")
    assert page is not None
    assert "<script" not in page.html
    assert "<img" not in page.html
    assert 'href="javascript' not in page.html


def test_an_installation_without_documents_says_that_nothing_is_there(tmp_path: Path) -> None:
    empty = site.load(tmp_path)
    assert (empty.page("index"), empty.groups, empty.sections) == (None, [], [])


@pytest.mark.parametrize("path", ["/docs/nowhere", "/docs/../README.md", "/docs/adr/", "/docs/undo.md", "/docs/%00"])
def test_no_other_file_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404
