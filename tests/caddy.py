"""Debian's Caddy with `deploy/Caddyfile`, in front of whatever listens on loopback."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.nginx import Front, listening_proxy
from tests.ports import free_port
from tests.service import PROJECT

CONFIGURATION = PROJECT / "deploy" / "Caddyfile"
CADDY = shutil.which("caddy")


def rewritten(text: str, front: Front, upstream: int) -> str:
    """The Caddyfile with another name, port, upstream and certificate; every other byte stays."""
    certificate = f"tls {front.authority} {front.certificates}/privkey.pem"
    for there, here in [
        (r"\A(#.*\n)\{", r"\1{\n\tadmin off\n\tauto_https disable_redirects"),
        (r"^vault\.example\.com \{", f"https://localhost:{front.tls} {{\n\tbind 127.0.0.1\n\t{certificate}"),
        (r"127\.0\.0\.1:5050", f"127.0.0.1:{upstream}"),
    ]:
        text, count = re.subn(there, here, text, flags=re.MULTILINE)
        assert count == 1, there
    return text


@contextmanager
def running_caddy(folder: Path, upstream: int) -> Iterator[Front]:
    """Run Caddy in front of this port, with its files in `folder`. It serves TLS only."""
    if CADDY is None:
        pytest.skip("there is no Caddy")
    folder.mkdir()
    front = Front(0, free_port(), folder / "certificates", folder / "log")
    front.certificates.mkdir()
    make_certificate(front.certificates)
    configuration = folder / "Caddyfile"
    configuration.write_text(rewritten(CONFIGURATION.read_text(), front, upstream))
    command = [CADDY, "run", "--config", str(configuration), "--adapter", "caddyfile"]
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with listening_proxy("Caddy", command, front.tls, front.log, home):
        yield front
