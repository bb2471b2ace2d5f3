"""The addresses of notifications: which have the form of one, and that no secret of one is shown."""

from __future__ import annotations

import pytest

from eventvault.notify_addresses import is_address, is_web_address, mask, mask_all, redact


@pytest.mark.parametrize(
    "text", ["ntfy://topic", "mailto://u:p@x.org", "json://localhost:8000/hook", "dbus:///x", "a+b://?c"]
)
def test_an_address_has_a_scheme_and_something_behind_it(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text", ["", "ntfy", "ntfy:topic", "ntfy://", "://x", "1a://x", "n tfy://x", "ntfy:// x", "a" * 40 + "://x"]
)
def test_all_else_is_none(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://hc-ping.com/3f1e", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000/x", True),
        ("https://user:word@example.org/x", True),
        ("ftp://example.org/x", False),
        ("file:///etc/passwd", False),
        ("https:///x", False),
        ("http://exa mple.org", False),
        ("hc-ping.com/3f1e", False),
    ],
)
def test_a_web_address_is_one_of_http_with_a_host(text: str, expected: bool) -> None:
    assert is_web_address(text) is expected


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mailto://ann:secret@example.org", "mailto://…@example.org"),
        ("mailtos://ann:secret@example.org:587?to=boss@example.org&from=secret", "mailtos://…@example.org:587"),
        ("mailto://smtp.example.org?user=ann&pass=secret", "mailto://…@smtp.example.org"),
        ("ntfy://secret", "ntfy://…"),
        ("NTFY://ann:secret@ntfy.example.org/secret", "ntfy://…"),
        ("slack://secret/secret/secret", "slack://…"),
        ("json://example.org:8000", "json://example.org:8000"),
        ("json://example.org/hook/secret", "json://example.org/…"),
        ("jsons://ann:secret@example.org/hook?+X-Key=secret", "jsons://…@example.org"),
        ("https://hc-ping.com/secret", "https://hc-ping.com/…"),
        ("json://ann:sec/ret@example.org/x", "json://…"),
        ("json://secret/x@example.org", "json://…"),
        ("no address with a secret", "…"),
    ],
)
def test_only_what_is_no_secret_is_shown(address: str, shown: str) -> None:
    assert mask(address) == shown
    assert "secret" not in mask(address)


def test_addresses_that_look_the_same_are_told_apart_by_their_place() -> None:
    assert mask_all(["ntfy://a", "json://x", "ntfy://b"]) == ("ntfy://… (1 of 3)", "json://x", "ntfy://… (3 of 3)")


def test_what_a_service_says_is_shown_without_the_parts_of_the_address() -> None:
    address = "tgram://12345:AAE-geheim_x/chat%20room?key=Pass%2Fwort"
    said = "Max retries with url: /bot12345:AAE-geheim_x/send; 'chat room', aae-GEHEIM_x, Pass/wort, a 403 of host"
    shown = redact(said, address)
    assert shown == "Max retries with url: /bot…:…/send; '…', …, …, a 403 of host"


def test_the_shown_host_stays_in_what_is_said() -> None:
    said = "example.org refused ann: 535 of secret"
    assert redact(said, "mailto://anna:secret@example.org") == "example.org refused ann: 535 of …"


def test_an_address_that_apprise_quotes_in_its_own_way_is_hidden_whole() -> None:
    said = "Could not load E-Mail URL: mailto://u:s...8@1...1:25?to=a...c, try again"
    shown = redact(said, "mailto://u:secret8@example.org")
    assert shown == "Could not load E-Mail URL: mailto://… try again"
