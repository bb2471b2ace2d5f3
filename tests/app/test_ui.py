"""How the dashboard's files are served, and that those of other people are what their packages have."""

from __future__ import annotations

import gzip
import importlib.util
import re
import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.ui import files
from eventvault.settings import PROJECT
from tests import packages

STATIC = PROJECT / "app" / "ui" / "static"


@pytest.fixture
def version(client: FlaskClient) -> str:
    found = re.search(r"/ui/([0-9a-f]{12})/app\.js", client.get("/").get_data(as_text=True))
    assert found is not None
    return found[1]


def test_the_page_is_asked_for_each_time_and_its_files_never_again(client: FlaskClient, version: str) -> None:
    page = client.get("/")
    assert page.headers["Cache-Control"] == "no-cache"
    assert client.get("/", headers={"If-None-Match": page.headers["ETag"]}).status_code == 304
    script = client.get(f"/ui/{version}/app.js")
    assert "immutable" in script.headers["Cache-Control"]
    assert script.content_type == "text/javascript; charset=utf-8"
    assert script.data == (STATIC / "app.js").read_bytes()


@pytest.mark.slow
def test_a_client_that_takes_gzip_gets_it(client: FlaskClient, version: str) -> None:
    packed = client.get(f"/ui/{version}/style.css", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == (STATIC / "style.css").read_bytes()
    assert "Content-Encoding" not in client.get(f"/ui/{version}/style.css", headers={"Accept-Encoding": "br"}).headers


@pytest.mark.parametrize("name", ["nowhere.js", "../routes.py", "%2e%2e/routes.py", "", "index.html"])
def test_nothing_else_is_served(client: FlaskClient, version: str, name: str) -> None:
    assert client.get(f"/ui/{version}/{name}").status_code in (404, 405)
    assert client.get("/ui/000000000000/app.js").status_code == 404


def test_each_file_that_the_page_and_its_modules_name_is_there(client: FlaskClient, version: str) -> None:
    named = re.findall(rf"/ui/{version}/([^\"]+)", client.get("/").get_data(as_text=True))
    assert {"start.js", "style.css", "vendor/uPlot.min.js", "vendor/preact.mjs"} <= set(named)
    for name in named:
        assert client.get(f"/ui/{version}/{name}").status_code == 200, name
    for module in STATIC.rglob("*.js"):
        for target in re.findall(r'^(?:import|export) .*?from "(\.[^"]+)";', module.read_text(), re.MULTILINE):
            assert (module.parent / target).is_file(), f"{module.name} imports {target}"


@pytest.mark.slow
def test_the_page_names_what_it_begins_with_and_nothing_of_the_pages_that_are_opened_later(client: FlaskClient) -> None:
    page = client.get("/").get_data(as_text=True)
    named = set(re.findall(r'modulepreload" href="/ui/[0-9a-f]+/([^"]+)"', page))
    assert {"vendor/preact.mjs", "vendor/hooks.mjs", "html.js", "overview/page.js", "timeline/chart.js"} <= named
    later = set(re.findall(r"import\(`\./([^`$]+)", (STATIC / "app.js").read_text()))
    assert later >= {"backups/page.js", "events/page.js", "operations/kafka.js", "settings/page.js"}
    assert not named & {*later, "backups/upload.js", "use_pages.js"}
    for name in named | {"app.js"}:
        needed = re.findall(r'^(?:import|export) .*?from "(\.[^"]+)";', (STATIC / name).read_text(), re.MULTILINE)
        assert {str((STATIC / name).parent.joinpath(each).resolve().relative_to(STATIC)) for each in needed} <= named


def test_nothing_but_the_look_of_the_frame_is_asked_for_before_it_is_painted() -> None:
    page = re.sub(r"<template.*?</template>", "", (STATIC / "index.html").read_text(), flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="/ui/VERSION/([^"]+)"', page.partition("<body>")[0]) == [
        "icon.svg", "style.css", "start.js",
    ]  # fmt: skip
    assert re.findall(r"<script(?![^>]* defer>)", page) == []


@pytest.mark.parametrize(
    ("cookie", "root"),
    [(None, '<html lang="en">'), ("dark", '<html lang="en" data-theme="dark">'),
     ("light", '<html lang="en" data-theme="light">'), ('"><script>', '<html lang="en">')],
)  # fmt: skip
def test_the_page_comes_in_the_colours_that_the_browser_chose(
    client: FlaskClient, cookie: str | None, root: str
) -> None:
    plain = client.get("/").headers["ETag"]
    if cookie is not None:
        client.set_cookie("eventvault-theme", cookie)
    page = client.get("/")
    assert root in page.get_data(as_text=True)
    assert "Cookie" in page.headers["Vary"]
    assert (page.headers["ETag"] == plain) is (root == '<html lang="en">')


def test_the_sign_of_the_frame_is_the_icon() -> None:
    shapes = re.compile(r' (?:d|r|rx|fill|stroke-width)="([^"]+)"')
    in_icon = shapes.findall((STATIC / "icon.svg").read_text().partition("<rect")[2])
    for name in ("index.html", "icons.js"):
        assert in_icon == shapes.findall((STATIC / name).read_text().partition("<rect")[2].partition("</svg>")[0]), name


def test_another_file_is_another_version(tmp_path: Path) -> None:
    shutil.copytree(STATIC, tmp_path / "static")
    before = files.load(tmp_path / "static").version
    (tmp_path / "static" / "app.js").write_text("// changed")
    assert files.load(tmp_path / "static").version != before


def test_the_page_has_no_inline_script_and_no_inline_style() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert "style=" not in page
    own = [module for module in STATIC.rglob("*.js") if "vendor" not in module.parts]
    unsafe = re.compile(r"\beval\(|innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML")
    assert [module.name for module in own if unsafe.search(module.read_text())] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_files_of_other_people_are_what_their_packages_have(tmp_path: Path) -> None:
    packages.need("node", "npm")
    script = importlib.util.spec_from_file_location("vendor_ui", PROJECT / "scripts" / "vendor_ui.py")
    assert script is not None
    assert script.loader is not None
    vendor_ui = importlib.util.module_from_spec(script)
    script.loader.exec_module(vendor_ui)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(vendor_ui.PACKAGES / name, tmp_path)
    packages.prepare(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], tmp_path)
    expected = vendor_ui.vendor_files(tmp_path / "node_modules")
    assert {path.name: path.read_bytes() for path in vendor_ui.VENDOR.iterdir()} == expected
