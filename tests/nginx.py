"""Debian's nginx with the container's configuration, in front of whatever listens on loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.service import PROJECT, free_port

CONFIGURATION = PROJECT / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def rewritten(text: str, port: int, upstreams: list[int], folder: Path) -> str:
    """The container's configuration with other ports, upstream and paths; every other byte stays."""
    servers = " ".join(f"server 127.0.0.1:{upstream} max_fails=0;" for upstream in upstreams)
    text, count = re.subn(r"server app:5050 resolve max_fails=0;", servers, text)
    assert count == 1
    text, count = re.subn(r"listen 5050;", f"listen 127.0.0.1:{port};", text)
    assert count == 1
    return re.sub(r"(?<= )/tmp/", f"{folder}/", text)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Call it with the ports of the upstreams: starts nginx in front of them and gives the port it listens on."""
    if NGINX is None:
        pytest.skip("there is no nginx")
    started: list[subprocess.Popen[bytes]] = []
    folder = tmp_path / "nginx"
    folder.mkdir()

    def start(*upstreams: int) -> int:
        port = free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(rewritten(CONFIGURATION.read_text(), port, list(upstreams), folder))
        with (folder / "log").open("wb") as log:
            options = "daemon off;" if os.geteuid() else "daemon off; user root;"  # only root may enter `folder`
            command = [str(NGINX), "-c", str(configuration), "-p", str(folder), "-g", options]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        started.append(process)

        def listening() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return True
            return False

        wait_until(listening, "nginx does not listen")
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait(30)
    if (folder / "log").exists():
        print(f"--- nginx\n{(folder / 'log').read_text(errors='replace')[-4_000:]}")
