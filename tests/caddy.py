"""Debian's Caddy with `deploy/Caddyfile`, in front of whatever listens on loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.nginx import Front
from tests.ports import free_port
from tests.processes import wait_until
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
    with front.log.open("wb") as log:
        process = subprocess.Popen(
            [CADDY, "run", "--config", str(configuration), "--adapter", "caddyfile"],
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    def listening() -> bool:
        assert process.poll() is None, front.log.read_text()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", front.tls), timeout=5).close()
            return True
        return False

    try:
        wait_until(listening, "Caddy does not listen")
        yield front
    finally:
        process.terminate()
        process.wait(90)
        print(f"--- Caddy\n{front.log.read_text(errors='replace')[-4_000:]}")
