"""The guide's examples with one header more, from this machine through nginx with TLS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.nginx import running_nginx
from tests.pages import run_page
from tests.service import Service


def test_the_page_about_tls_does_what_it_says(service: Callable[..., Service], tmp_path: Path) -> None:
    port = service(workers=1).port
    with running_nginx(tmp_path / "nginx", [port], certificate=True) as front:
        run_page("docs/tls.md", port, tls=front.tls, CURL_CA_BUNDLE=str(front.authority), EVENTVAULT_TOKEN="none")
