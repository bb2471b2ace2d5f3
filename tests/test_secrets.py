"""No file of the project has a secret."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from eventvault.token_text import holds_token

PROJECT = Path(__file__).resolve().parent.parent
_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")


@pytest.mark.slow
def test_no_file_of_the_project_has_a_token_or_a_private_key() -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("this is no checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, timeout=60, check=True).stdout
    paths = [PROJECT / name.decode() for name in listed.split(b"\0") if name]
    texts = {path: path.read_text(errors="replace") for path in paths if path.is_file()}
    assert len(texts) > 500
    assert [str(path) for path, text in texts.items() if holds_token(text) or _KEY.search(text)] == []


@pytest.mark.parametrize("kind", ["", "RSA ", "EC "])
def test_a_private_key_would_be_found(kind: str) -> None:
    assert _KEY.search(f"-----BEGIN {kind}PRIVATE KEY-----\n{'A' * 64}\n")
