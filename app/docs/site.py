"""The documents in `docs/` as a site: Markdown to HTML, links between the pages, and sections to search in.

A page is made on the first request for it, and stays in memory. The documents are part of the program, so their text
is trusted.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

INDEX = "index"
"""The page that lists all others; its headings and links are the navigation too."""
ROOT_PAGES = ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
"""Documents in the project's folder that are shown too, below `project/`."""
_PROJECT = "project"
PICTURES = "pictures"
"""The folder in `docs/` of the pictures that pages show, as WebP."""
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


class Link(NamedTuple):
    title: str
    address: str


class Group(NamedTuple):
    """A heading of the index with the pages below it."""

    title: str
    links: Sequence[Link]


class Document(NamedTuple):
    """A page. html: its text, made from our own Markdown. headings: title and anchor of each `##` heading."""

    title: str
    html: str
    headings: Sequence[tuple[str, str]]


class Site:
    """The pages and pictures of the documents.

    files: the path of each document by its name in addresses, such as `undo` or `adr/0001-one-store`. pictures: the
    path of each picture by the name of its file.
    """

    def __init__(self, files: Mapping[str, Path], pictures: Mapping[str, Path] | None = None) -> None:
        self.pictures = pictures or {}
        self._files = files
        self._pages: dict[str, Document] = {}

    @cached_property
    def _markdown(self) -> MarkdownIt:
        from markdown_it import MarkdownIt  # most workers never show a page, and it would delay their start

        return MarkdownIt("commonmark", {"html": False}).enable("table")

    @property
    def names(self) -> list[str]:
        return list(self._files)

    def page(self, name: str) -> Document | None:
        if name not in self._files:
            return None
        if name not in self._pages:
            self._pages[name] = self._render(name)
        return self._pages[name]

    @cached_property
    def groups(self) -> list[Group]:
        """The headings of the index, each with the pages below it."""
        if INDEX not in self._files:
            return []
        groups: list[Group] = []
        tokens = self._tokens(INDEX)
        for token, content in pairwise(tokens):
            if token.type == "heading_open" and token.tag == "h2":
                groups.append(Group(_text_of(content), []))
            elif token.type == "paragraph_open" and groups:
                groups[-1] = Group(groups[-1].title, [*groups[-1].links, *_links_of(content)])
        return [group for group in groups if group.links]

    @cached_property
    def sections(self) -> list[dict[str, str]]:
        """Every section: `name` of its page, `page` (its title), `title`, `anchor` and `text`."""
        return [section for name in self._files for section in _sections(name, self._tokens(name))]

    def _render(self, name: str) -> Document:
        tokens = self._tokens(name)
        html = self._markdown.renderer.render(tokens, self._markdown.options, {})
        return Document(
            _title(tokens) or name, html, [(title, anchor) for tag, title, anchor in _headings(tokens) if tag == "h2"]
        )

    def _tokens(self, name: str) -> list[Token]:
        tokens = self._markdown.parse(self._files[name].read_text(encoding="utf-8"))
        for token, content in pairwise(tokens):
            if token.type == "heading_open":
                token.attrSet("id", slug(_text_of(content)))
            elif token.type == "table_open":
                token.attrSet("tabindex", "0")  # a wide table scrolls, by the keyboard too
        for token in tokens:
            self._redirect_links(name, token.children or [])
        return tokens

    def _redirect_links(self, name: str, children: Sequence[Token]) -> None:
        """Point the links of a paragraph to pages of this site. A link to a file that it does not show becomes text."""
        is_dropped = False
        for child in children:
            if child.type == "link_open":
                address = self._address(name, str(child.attrGet("href")))
                is_dropped = address is None
                child.attrs = {} if address is None else {**child.attrs, "href": address}
            elif child.type == "image":
                child.attrSet("src", f"/docs/{PICTURES}/{posixpath.basename(str(child.attrGet('src')))}")
                child.attrSet("loading", "lazy")
            if child.type in ("link_open", "link_close") and is_dropped:
                child.tag = "span"

    def _address(self, name: str, href: str) -> str | None:
        """Return where a link of the page `name` leads on this site; None for a file that it does not show."""
        if _ELSEWHERE.match(href) or href.startswith(("#", "/")):
            return href
        target, _, anchor = href.partition("#")
        folder = "" if name.startswith(f"{_PROJECT}/") else posixpath.join("docs", posixpath.dirname(name))
        path = posixpath.normpath(posixpath.join(folder, target))
        page = _name_of(path)
        if page not in self._files:
            return None
        return f"/docs/{'' if page == INDEX else page}" + (f"#{anchor}" if anchor else "")


def load(project: Path) -> Site:
    """Return the site of the documents in the project's folder. It has no page where they were not installed."""
    docs = project / "docs"
    files = {path.relative_to(docs).with_suffix("").as_posix(): path for path in sorted(docs.rglob("*.md"))}
    roots = {f"{_PROJECT}/{name}": project / f"{name}.md" for name in ROOT_PAGES}
    pictures = {path.name: path for path in sorted((docs / PICTURES).glob("*.webp"))}
    return Site({**files, **{name: path for name, path in roots.items() if path.is_file()}}, pictures)


def _name_of(path: str) -> str:
    """Return a document's name: `docs/adr/README.md` → `adr/README`, `SECURITY.md` → `project/SECURITY`."""
    name = path.removesuffix(".md")
    return name.removeprefix("docs/") if name.startswith("docs/") else f"{_PROJECT}/{name}"


def slug(title: str) -> str:
    """Return the anchor of a heading, by GitHub's rule, so that one link works in both places."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _text_of(token: Token) -> str:
    """Return the text of an inline token without its markup."""
    return "".join(
        child.content if child.type in ("text", "code_inline") else " " * (child.type == "softbreak")
        for child in token.children or ()
    )


def _links_of(token: Token) -> Iterator[Link]:
    children = token.children or []
    for child, content in pairwise(children):
        if child.type == "link_open":
            yield Link(content.content, str(child.attrGet("href")))


def _headings(tokens: Sequence[Token]) -> Iterator[tuple[str, str, str]]:
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            yield token.tag, _text_of(content), str(token.attrGet("id"))


def _title(tokens: Sequence[Token]) -> str:
    return next((title for tag, title, _ in _headings(tokens) if tag == "h1"), "")


def _sections(name: str, tokens: Sequence[Token]) -> Iterator[dict[str, str]]:
    page = _title(tokens) or name
    section = {"name": name, "page": page, "title": page, "anchor": "", "text": ""}
    is_heading = False
    for token in tokens:
        if token.type == "heading_open":
            if section["text"]:
                yield section
            is_heading = True
            section = {**section, "anchor": str(token.attrGet("id")), "text": ""}
        elif token.type == "inline":
            if is_heading:
                section["title"] = _text_of(token)
            else:
                section["text"] += _text_of(token) + " "
            is_heading = False
        elif token.type in ("fence", "code_block"):
            section["text"] += token.content + " "
    if section["text"]:
        yield section
