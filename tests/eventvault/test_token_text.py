"""The text of tokens, its checksum, and the tokens in settings."""

from __future__ import annotations

import hashlib
import string
import zlib

import pytest

from eventvault import token_text
from eventvault.token_text import new_token, parse_setting

DIGEST = hashlib.sha256(b"whatever").hexdigest()


def test_a_token_is_a_prefix_an_id_and_a_secret_of_190_bits_with_a_checksum() -> None:
    token = new_token()
    prefix, token_id, secret = token.split("_")
    assert (prefix, len(token_id), len(secret)) == ("ev", 8, 32 + 6)
    assert set(token_id + secret) <= set(string.ascii_letters + string.digits)
    assert 62**32 > 2**190
    assert token_text.id_of(token) == token_id
    assert token_text.is_whole(token)


@pytest.mark.slow
def test_no_two_tokens_are_the_same() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000


def test_the_checksum_is_the_crc_32_in_base_62() -> None:
    """Scanners of others compute it from all that is before it; the most significant digit comes first."""
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    for token in (new_token() for _ in range(100)):
        number = sum(digits.index(digit) * 62**place for place, digit in enumerate(reversed(token[-6:])))
        assert number == zlib.crc32(token[:-6].encode())


def test_every_wrong_character_is_noticed() -> None:
    token = new_token()
    for place in range(3, len(token)):
        if token[place] == "_":
            continue
        for other in ("A", "b", "7"):
            if other != token[place]:
                assert not token_text.is_whole(token[:place] + other + token[place + 1 :])


@pytest.mark.parametrize("wrong", ["", "ev_", "ev_short_x", "sk_4fQ2mZ8k_" + "a" * 38, "ev_4fQ2mZ8k_" + "é" * 38])
def test_other_texts_are_no_tokens(wrong: str) -> None:
    assert token_text.id_of(wrong) is None
    assert not token_text.is_whole(wrong)


def test_a_token_is_found_within_a_text() -> None:
    token = new_token()
    assert token_text.holds_token(f"a={token}&b=1")
    assert token_text.holds_token(token)
    assert not token_text.holds_token(token[:-1] + ("a" if token[-1] != "a" else "b"))
    assert not token_text.holds_token("ev_ent_id=ev_12345678_" + "x" * 38)


@pytest.mark.parametrize("name", ["cron", "a", "grafana-2", "A.b_c", "9"])
def test_names(name: str) -> None:
    assert token_text.is_name(name)


@pytest.mark.parametrize(
    "name", ["", "open", "Shell", "schedule", "start", "nobody", "a b", "-x", "ü", "a" * 65, "a\n", "api_tokens"]
)
def test_what_is_no_name(name: str) -> None:
    assert not token_text.is_name(name)


def test_settings_name_tokens_by_their_digest() -> None:
    text = f" ci:read+backup:sha256={DIGEST} ,\n# a comment, with commas\ncd:admin:sha256={DIGEST.upper()}\n"
    found = parse_setting(text)
    assert [(token.name, token.scopes, token.digest.hex()) for token in found] == [
        ("ci", {"read", "backup"}, DIGEST),
        ("cd", {"admin"}, DIGEST),
    ]
    assert len(found[0].id) == 8
    assert parse_setting("  \n# nothing\n") == ()


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("x", 1),
        (f"ci:read:sha256={DIGEST},cd:read:{DIGEST}", 2),
        (f"ci:root:sha256={DIGEST}", 1),
        (f"ci:read:sha256={DIGEST[:-1]}", 1),
        (f"open:read:sha256={DIGEST}", 1),
        (f"ci::sha256={DIGEST}", 1),
        (f"ci:read:md5={DIGEST}", 1),
        (f"a:read:sha256={DIGEST},ev_4fQ2mZ8k_{'a' * 38}", 2),
    ],
)
def test_an_entry_that_is_not_valid_is_named_by_its_place(text: str, entry: int) -> None:
    with pytest.raises(ValueError) as raised:
        parse_setting(text)
    assert raised.value.args == (entry,)


def test_a_token_is_no_name_and_is_masked_in_a_log() -> None:
    token = new_token()
    assert not token_text.is_name(token)
    assert token_text.mask_tokens(f"/api/tokens/{token}?a=1") == "/api/tokens/ev_…?a=1"
    assert token_text.mask_tokens("/api/events/ev_ent") == "/api/events/ev_ent"
