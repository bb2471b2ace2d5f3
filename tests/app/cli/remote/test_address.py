"""Addresses and tokens of commands over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from app.cli.remote.address import parse, tls_of, token_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://vault.example", "https://vault.example"),
        ("https://vault.example:443/", "https://vault.example"),
        ("https://vault.example:8443/events/", "https://vault.example:8443/events"),
        ("http://127.0.0.1:5050", "http://127.0.0.1:5050"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]:5050/", "http://[::1]:5050"),
        ("http://LOCALHOST:5050", "http://localhost:5050"),
        (" http://vault.localhost:1 ", "http://vault.localhost:1"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_address_is_a_scheme_a_host_and_a_path(url: str, shown: str) -> None:
    assert str(parse(url, insecure=False)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "vault.example",
        "ftp://vault.example",
        "https://",
        "https:///path",
        "https://vault.example?token=ev_1",
        "https://vault.example#x",
        "https://vault.example:port",
        "https://vault.example:99999",
        "https://vault.example/a b",
        "https://vault.example/a\r\nHost: b",
        "https://[::1",
        "file:///etc/passwd",
        "\x1b[31m",
        "x" * 10_000,
        f"https://{'a' * 64}.example",
    ],
)
def test_what_is_no_address_is_refused_in_printable_words(url: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parse(url, insecure=True)
    assert refused.value.format_message().isprintable()
    assert len(refused.value.format_message()) < 400


def test_a_user_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(click.UsageError) as refused:
        parse("https://token:ev_secret@vault.example", insecure=True)
    assert "ev_secret" not in refused.value.format_message()


@pytest.mark.parametrize(
    "host", ["vault.example", "10.0.0.5", "[2001:db8::1]", "127.0.0.1.example", "localhost.example"]
)
def test_plain_http_to_another_machine_needs_insecure(host: str) -> None:
    with pytest.raises(click.UsageError, match="--insecure"):
        parse(f"http://{host}:5050", insecure=False)
    assert parse(f"http://{host}:5050", insecure=True).scheme == "http"
    with pytest.raises(click.UsageError, match="add --to-insecure"):
        parse(f"http://{host}:5050", insecure=False, service="to-")


def test_a_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("ev_file\n")
    link = tmp_path / "link"
    link.symlink_to(file)
    assert token_of({}) is None
    assert token_of({"EVENTVAULT_TOKEN": " ev_word \n"}) == "ev_word"
    assert token_of({"EVENTVAULT_TOKEN_FILE": str(link)}) == "ev_file"
    assert token_of({"EVENTVAULT_TOKEN": "ev_word", "EVENTVAULT_TOKEN_FILE": str(file)}) == "ev_word"
    assert token_of({"EVENTVAULT_TOKEN": "", "EVENTVAULT_TOKEN_FILE": " "}) is None


@pytest.mark.parametrize("token", ["two words", "line\r\nHost: evil", "ümlaut", "x" * 600])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        token_of({"EVENTVAULT_TOKEN": token})
    assert token not in refused.value.format_message()


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"gone failed"):
        token_of({"EVENTVAULT_TOKEN_FILE": str(tmp_path / "gone")})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(click.UsageError, match="pipe"):
        token_of({"EVENTVAULT_TOKEN_FILE": str(tmp_path / "pipe")})


def test_an_authority_has_to_be_a_file_with_certificates(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("gone.pem", "empty.pem"):
        with pytest.raises(click.UsageError, match="--ca-file"):
            tls_of(parse("https://vault.example", insecure=False), tmp_path / name)
    assert tls_of(parse("http://127.0.0.1", insecure=False), None) is None
