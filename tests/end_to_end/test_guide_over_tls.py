"""The guide's examples with one header more, from this machine through nginx with TLS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.access.changes import TokenChanges
from eventvault.settings import load
from tests.nginx import running_nginx
from tests.pages import run_page
from tests.service import Service


def test_the_guides_examples_work_through_tls_with_a_token_and_not_without(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> None:
    token = TokenChanges(load(settings_environment)).create("admin", "admin", by="shell").text
    port = service(workers=1).port
    with running_nginx(tmp_path / "nginx", [port], certificate=True) as front:
        known = {"CURL_CA_BUNDLE": str(front.authority)}
        run_page("docs/tls.md", port, tls=front.tls, EVENTVAULT_TOKEN=token, **known)
        with pytest.raises(AssertionError, match="401"):
            run_page("docs/tls.md", port, tls=front.tls, EVENTVAULT_TOKEN=token[:-1], **known)
