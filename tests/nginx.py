"""Debian's nginx with the container's configuration, in front of whatever listens on loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.ports import free_port
from tests.processes import wait_until
from tests.service import PROJECT

CONFIGURATION = PROJECT / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Front:
    """A running nginx: its ports for plain HTTP and for TLS, the folder of its certificate, and its log."""

    plain: int
    tls: int
    certificates: Path
    log: Path

    @property
    def authority(self) -> Path:
        """What a client trusts to reach it over TLS."""
        return self.certificates / "fullchain.pem"


def rewritten(text: str, front: Front, upstreams: list[int], folder: Path) -> str:
    """The container's configuration with other ports, upstream and paths; every other byte stays."""
    text = re.sub(r"(?<= )/tmp/", f"{folder}/", text)
    servers = " ".join(f"server 127.0.0.1:{upstream} max_fails=0;" for upstream in upstreams)
    for there, here in [
        (r"server app:5050 resolve max_fails=0;", servers),
        (r"listen 5050;", f"listen 127.0.0.1:{front.plain};"),
        (r"listen 5443 ssl;", f"listen 127.0.0.1:{front.tls} ssl;"),
        (r"/etc/nginx/certificates", str(front.certificates)),
    ]:
        text, count = re.subn(there, here, text)
        assert count == 1, there
    return text


@contextmanager
def running_nginx(folder: Path, upstreams: list[int], *, certificate: bool = False) -> Iterator[Front]:
    """Run nginx in front of these ports, with its files in `folder`. Skips the test if there is no nginx."""
    if NGINX is None:
        pytest.skip("there is no nginx")
    folder.mkdir()
    front = Front(free_port(), free_port(), folder / "certificates", folder / "log")
    front.certificates.mkdir()
    if certificate:
        make_certificate(front.certificates)
    configuration = folder / "nginx.conf"
    configuration.write_text(rewritten(CONFIGURATION.read_text(), front, upstreams, folder))
    options = "daemon off;" if os.geteuid() else "daemon off; user root;"  # only root may enter `folder`
    command = [str(NGINX), "-c", str(configuration), "-p", str(folder), "-g", options]
    with listening_proxy("nginx", command, front.plain, front.log):
        yield front


@contextmanager
def listening_proxy(
    name: str, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a proxy in the folder of its log, once it listens on this port. Prints the end of its log at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, cwd=log.parent,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip

    def listening() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        return False

    try:
        wait_until(listening, f"{name} does not listen")
        yield
    finally:
        process.terminate()
        process.wait(90)
        print(f"--- {name}\n{log.read_text(errors='replace')[-4_000:]}")


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Call it with the ports of the upstreams: starts nginx in front of them and gives the port of its plain HTTP."""
    with ExitStack() as running:
        yield lambda *upstreams: running.enter_context(running_nginx(tmp_path / "nginx", list(upstreams))).plain
