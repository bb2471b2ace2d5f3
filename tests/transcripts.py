"""Sessions of the command line that pages show: `$ command` and what it prints, and what of that varies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tests.service import PROJECT

Varying = Sequence[tuple[re.Pattern[str], str]]
"""What varies → the name that stands for it."""

_VARIES: Varying = [
    (re.compile(r"\d{4}-\d\d-\d\d[ _]\d\d:?\d\d:?\d\d"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "<minute>"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "<generation>"),
    (re.compile(r"\b[\d.]+ (bytes|kB|MB|GB|TB)\b"), "<size>"),
    (re.compile(r"\b[\d.]+ s\b"), "<seconds>"),
    (re.compile(r"reads +.*"), "reads <whatever is quickest>"),
    (re.compile(r"about <seconds>, by this machine's earlier restores|not known yet"), "<duration>"),
    (re.compile(r"up to [\d,]+ in"), "up to <count> in"),
    (re.compile(r"[ ▁▂▃▄▅▆▇█]*[▁▂▃▄▅▆▇█]"), "<bars>"),
    (re.compile(r"[●─]{2,}"), "<backups>"),
    (re.compile(r"^.* now$", re.MULTILINE), "<times>"),
    (re.compile(r" +"), " "),
]


def without_what_varies(text: str, more: Varying = ()) -> str:
    """Return the text with a name for each part that varies. more: such parts, which are replaced first."""
    for pattern, name in (*more, *_VARIES):
        text = pattern.sub(name, text)
    return text


def session(page: str, heading: str = "") -> Iterator[tuple[str, str]]:
    """Each command of the page with what it prints. heading: only those of this section."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for block in re.findall(r"^```\n(\$ .*?)^```$", text, re.DOTALL | re.MULTILINE):
        for part in f"\n{block}".split("\n$ ")[1:]:
            line, _, printed = part.partition("\n")
            yield line, printed.strip("\n")
