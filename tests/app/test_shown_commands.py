"""Each command line of the documents names programs, commands, options, routes, settings and files that there are.

What it prints is compared elsewhere (`tests/shown.py`); this holds for the lines too that no test can run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence

import click
import pytest
import yaml
from flask import Flask

from app.cli.command_table import COMMANDS
from app.cli.commands import command
from app.cli.group import Deferred
from eventvault.settings import DECLARATIONS, PROJECT, load
from tests.curl import request_of
from tests.shown import PAGES, Block, blocks

SETTINGS = {each.name for each in DECLARATIONS}
OTHER_VARIABLES = {
    "BENCH_OPTIONS", "EVENTVAULT_TOKEN", "EVENTVAULT_URL", "PIP_INDEX_URL", "PYTEST_OPTIONS", "TEST_PROCESSES",
    "TLS_ADDRESS",
}  # fmt: skip
COMPOSE_VERBS = {"build", "down", "exec", "logs", "restart", "run", "up"}
OTHER_PROGRAMS = {
    ".", "[", "apt-get", "b3sum", "cat", "cd", "certbot", "chown", "cp", "cut", "done", "echo", "exit", "export",
    "find", "for", "grep", "gzip", "head", "install", "journalctl", "jq", "kafka-console-consumer.sh",
    "kafka-console-producer.sh", "kafka-topics.sh", "mv", "od", "openssl", "printf", "pytest", "read", "rsync", "sed",
    "set", "sha256sum", "sleep", "sort", "tail", "tar", "tee", "test", "tr", "true", "umask", "useradd", "xxd",
}  # fmt: skip
"""Programs whose options are their own."""
_KEYWORDS = {"command", "do", "exec", "if", "sudo", "then", "until", "while"}
"""Words before a command."""
_OF_FLASK = {"routes", "run", "shell"}
"""Commands that Flask itself has."""
_REFUSED = {"0 0 2 * * *"}
"""A value that a page shows as one that is refused."""
_OPERATORS = re.compile(r"[;&|()]+")
_INLINE = re.compile(r"(?<!`)`((?:flask|eventvault|make|docker-compose|systemctl|curl) [^`\n]*)`(?!`)")
_PROSE = re.compile(r"…|\.\.\.|<|\bVERB\b")


def lines_of(block: Block) -> Iterator[str]:
    """Yield the command lines of a block, whole."""
    text = block.text.replace("\\\n", " ")
    if block.kind == "session" or text.startswith("$ "):
        yield from (line[2:] for line in text.splitlines() if line.startswith("$ "))
    elif block.kind == "sh" or (block.kind == "indented" and is_script(text)):
        yield from (line for line in text.splitlines() if not line.startswith('"'))  # what it printed


def is_script(text: str) -> bool:
    """Return whether an indented block is a script, and not an answer or a file."""
    first = next((words for line in text.splitlines() if (words := words_of(line))), [])
    return bool(first) and (
        first[0] in CHECKS or first[0] in OTHER_PROGRAMS or bool(re.match(r"[A-Za-z_]\w*=", first[0]))
    )


def words_of(line: str) -> list[str]:
    """Return the words of a line with its operators; none if it is no line for a shell, such as a part of one."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return []


def commands_of(line: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a line, without redirections."""
    words: list[str] = []
    skipped = False
    for word in words_of(line):
        if _OPERATORS.fullmatch(word):
            yield words
            words = []
        elif re.fullmatch(r"\d?[<>]+&?", word):
            skipped = True
        elif not skipped:
            words.append(word)
        else:
            skipped = False
    yield words


def check(words: list[str]) -> None:
    """Raise AssertionError if a command names what there is not."""
    while words and (words[0] in _KEYWORDS or re.match(r"[A-Za-z_]\w*=", words[0])):
        if words[0] not in _KEYWORDS:
            check_variable(*words[0].split("=", 1))
        words = words[1:]
    if not words:
        return
    program = (
        words[0].rpartition("/")[2] if words[0].startswith((".venv/bin/", "/srv/eventvault/.venv/bin/")) else words[0]
    )
    checking = CHECKS.get(program)
    if checking is not None:
        checking(words[1:])
    else:
        assert program in OTHER_PROGRAMS, f"{program} is no program that the documents need"
    for word in words[1:]:
        if re.fullmatch(r"(deploy|scripts|tests|docs|app|eventvault)/[\w./-]+", word):
            assert (PROJECT / word).exists(), word


def check_variable(name: str, value: str) -> None:
    check_variables([(name, value)])


def check_variables(variables: Sequence[tuple[str, str]]) -> None:
    """The settings that are given together must be valid together."""
    names = {name for name, _ in variables if not name.islower()}  # others are of the shell alone
    assert names <= SETTINGS | OTHER_VARIABLES, f"{sorted(names - SETTINGS - OTHER_VARIABLES)} are no settings"
    load({name: value for name, value in variables if name in SETTINGS and "$" not in value and value not in _REFUSED})


def check_flask(words: list[str]) -> None:
    if words[:1] == ["--app"]:
        assert words[1] == "wsgi"
        words = words[2:]
    if words[:1] and words[0] in _OF_FLASK:
        return
    words, found = without_common_options(words), None
    name = "eventvault"
    while words and not words[0].startswith("-"):
        if found is None:
            assert words[0] in COMMANDS, f"there is no command {words[0]}"
            found = command(words[0])
        elif isinstance(found, click.Group) and words[0] in found.commands:
            found = found.commands[words[0]]
        else:
            break
        if isinstance(found, Deferred):
            found = found.load()
        name, words = words[0], without_common_options(words[1:])
    if found is None:
        assert not words or words[0] in ("--help", "--version"), words
        return
    context = click.Context(
        found, info_name=name, help_option_names=["-h", "--help"]
    )  # a command keeps its help option
    found.make_parser(context).parse_args([word for word in words if not re.fullmatch(r"\[.*|…|.*\]", word)])


def without_common_options(words: list[str]) -> list[str]:
    while words[:1] and words[0] in ("--json", "--utc", "--insecure", "--url", "--ca-file"):
        words = words[2:] if words[0] in ("--url", "--ca-file") else words[1:]
    return words


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert words[0] in targets, f"there is no target {words[0]}"
    variables = [(name, value) for name, _, value in (word.partition("=") for word in words[1:])]
    check_variables(variables)


def check_compose(words: list[str]) -> None:
    services = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    verb, rest = words[0], [word for word in words[1:] if not word.startswith("-") or words[0] in ("exec", "run")]
    assert verb in COMPOSE_VERBS, verb
    if verb in ("exec", "run"):
        while rest[0].startswith("-"):
            rest = rest[2:] if rest[0] in ("--user", "-u", "-e") else rest[1:]
        assert rest[0] in services, f"there is no service {rest[0]}"
        if not rest[1].startswith("/"):
            check(rest[1:])
    else:
        assert set(rest) <= services.keys(), rest


def check_systemctl(words: list[str]) -> None:
    assert words[0] in {"start", "stop", "reload", "restart", "enable", "disable", "status", "edit"}, words
    units = {"eventvault", "caddy", "nginx"}
    assert {word for word in words[1:] if not word.startswith("-")} <= units, words


def check_python(words: list[str]) -> None:
    if words[:1] == ["-m"] and words[1] != "venv":
        path = PROJECT.joinpath(*words[1].split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), words[1]


def check_pip(words: list[str]) -> None:
    """Its options are those that `make` gives it."""
    used = (PROJECT / "scripts" / "install").read_text() + (PROJECT / "Dockerfile").read_text()
    assert words[0] == "install"
    assert [word for word in words if word.startswith("--") and word not in used] == []


def check_git(words: list[str]) -> None:
    assert words[0] in {"clone", "pull"}, words


def check_shell(words: list[str]) -> None:
    """`sh -c '…'`: what it runs."""
    if words[:1] == ["-c"]:
        check_line(words[1])


def check_systemd_analyze(words: list[str]) -> None:
    assert words[0] in {"verify", "security"}, words


def check_curl(words: list[str]) -> None:
    line = shlex.join(["curl", *words])
    if re.search(r"(localhost|127\.0\.0\.1|vault\.example\.com)(:\d+)?/", line):
        request_of(line)


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "curl": check_curl,
    "docker-compose": check_compose,
    "eventvault": check_flask,
    "flask": check_flask,
    "git": check_git,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
    "sh": check_shell,
    "systemctl": check_systemctl,
    "systemd-analyze": check_systemd_analyze,
}


def check_line(line: str) -> None:
    line = re.sub(r"\$\([^()]*(\([^()]*\)[^()]*)*\)", "$value", line)
    for words in commands_of(line):
        check(words)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/benchmarks.md"])
def test_each_command_names_what_there_is(page: str) -> None:
    """But for what was measured, which `tests/app/test_shown_answers.py` compares."""
    shown = [line for block in blocks(page) for line in lines_of(block)]
    inline = _INLINE.findall((PROJECT / page).read_text(encoding="utf-8"))
    for line in [*shown, *(each for each in inline if not _PROSE.search(each))]:
        try:
            check_line(line)
        except (AssertionError, click.UsageError, ValueError) as error:
            pytest.fail(f"{line}\n{error}")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_each_request_goes_to_a_route(app: Flask, page: str) -> None:
    routes = app.url_map.bind("localhost")
    text = (PROJECT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"curl [^|\n`]*(?:localhost|127\.0\.0\.1|vault\.example\.com):?\d*/[^|\n`]*", text):
        whole = re.sub(r"(?<=/backup/)[\w-]*(\$\w+|<\w+>)", "backup_2024-12-27_120000.tar.gz", line)
        whole = re.sub(r"\$\w+|<\w+>", "f" * 16, whole).partition("; do ")[0].strip().rstrip(")")
        request = request_of(whole if whole.count("'") % 2 == whole.count('"') % 2 == 0 else whole.partition(" -d")[0])
        assert routes.test(request.path, request.method), line
