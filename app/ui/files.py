"""The files of the dashboard in memory, compressed once, under a path that changes with any of them.

The version in the path is a digest of all files. So a browser may store a file for ever, and a page never mixes the
files of two releases.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

STATIC = Path(__file__).with_name("static")
INDEX = "index.html"
PLACE = "/ui/VERSION/"
"""The path by which the files name the folder that they are served from."""
ENTRY = "app.js"
"""The module that the page begins with."""
COLOURS = ("system", "light", "dark")
"""The colours that a browser may choose. The page is sent in them, because its first paint waits for no script."""
_ROOT = '<html lang="en">'
_IMPORT = re.compile(rb'(?:^|;)(?:import|export)\b[^;"]*"(\.[^"]+)"', re.MULTILINE)
"""An import that must be there before a module runs, unlike one by `import(…)`."""
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript"}
_TEXT = ("text/", "image/svg+xml")


class StaticFile(NamedTuple):
    """content, compressed: the bytes, plain and as gzip. tag: their ETag, without quotes."""

    content: bytes
    compressed: bytes
    content_type: str
    tag: str


class Dashboard(NamedTuple):
    """version: of all files. pages: the HTML in each of COLOURS. files: all others by their path below the version."""

    version: str
    pages: Mapping[str, StaticFile]
    files: Mapping[str, StaticFile]


def load(folder: Path = STATIC) -> Dashboard:
    """Read the dashboard's files from `folder`."""
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files_of(folder)}
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    version = digest.hexdigest()[:12]
    files = {name: _static_file(name, content) for name, content in contents.items()}
    page = _page(contents.pop(INDEX).decode(), version, contents)
    pages = {colours: _static_file(INDEX, _colour(page, colours).encode()) for colours in COLOURS}
    return Dashboard(version, pages, {name: files[name] for name in contents})


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _page(text: str, version: str, contents: Mapping[str, bytes]) -> str:
    """Return the page with links to all modules, so that a browser requests them at once, not one after the other."""
    links = "\n".join(f'<link rel="modulepreload" href="{PLACE}{name}">' for name in modules_of(contents))
    return text.replace("<!-- modules -->", links).replace(PLACE, f"/ui/{version}/")


def _colour(page: str, colours: str) -> str:
    return page if colours == "system" else page.replace(_ROOT, f'{_ROOT[:-1]} data-theme="{colours}">')


def modules_of(contents: Mapping[str, bytes]) -> list[str]:
    """Return the modules that run before anything is shown, in the order in which they are first named."""
    modules, waiting = {ENTRY: None}, [ENTRY]
    for name in waiting:
        for path in _IMPORT.findall(contents[name]):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path.decode()))
            if target in contents and target not in modules:
                modules[target] = None
                waiting.append(target)
    return [name for name in modules if name != ENTRY]


def _static_file(name: str, content: bytes) -> StaticFile:
    kind = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    content_type = f"{kind}; charset=utf-8" if kind.startswith(_TEXT) else kind
    return StaticFile(
        content, gzip.compress(content, 9, mtime=0), content_type, hashlib.sha256(content).hexdigest()[:32]
    )
