"""TLS at nginx and at Caddy, with the configurations of `deploy/`, in front of an upstream that a test can inspect."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.caddy import running_caddy
from tests.certificates import make_certificate
from tests.nginx import Front, running_nginx
from tests.ports import free_port
from tests.service import PROJECT
from tests.upstream import PATIENCE, Upstream

pytestmark = pytest.mark.slow

TOKEN = "ev_0123abcd_" + "S7" * 19
"""Looks like a token."""


def nginx_with_certificate(folder: Path, upstream: int) -> AbstractContextManager[Front]:
    return running_nginx(folder, [upstream], certificate=True)


PROXIES = {"nginx": nginx_with_certificate, "caddy": running_caddy}


@pytest.fixture(params=PROXIES)
def front(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Front]:
    with PROXIES[request.param](tmp_path / request.param, upstream.server_port) as running:
        yield running


def connect(front: Front) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(front.authority))
    return http.client.HTTPSConnection("localhost", front.tls, timeout=PATIENCE, context=context)


def test_a_request_arrives_with_the_address_and_the_scheme_of_the_client_and_not_with_what_it_says_of_itself(
    front: Front, upstream: Upstream
) -> None:
    upstream.proceed.set()
    connection = connect(front)
    claims = {
        "X-Forwarded-For": "10.1.1.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "rebound.example",
        "Authorization": "Bearer x",
        "Cookie": "__Host-ev=x",
        "X-EventVault-Session": "y",
    }
    connection.request("GET", "/api/health", headers=claims)
    assert connection.getresponse().read() == b"first\nsecond\n"
    connection.close()
    ((_, headers, _),) = upstream.requests
    passed = {name.title(): value for name, value in headers.items()}
    assert passed["X-Forwarded-For"] == "127.0.0.1"
    assert passed["X-Forwarded-Proto"] == "https"
    assert passed["Host"] == f"localhost:{front.tls}"
    assert "rebound.example" not in passed.values()
    assert [passed[name] for name in ("Authorization", "Cookie", "X-Eventvault-Session")] == [
        "Bearer x", "__Host-ev=x", "y",
    ]  # fmt: skip


def test_a_stream_reaches_the_client_as_it_is_made(front: Front, upstream: Upstream) -> None:
    connection = connect(front)
    connection.request("GET", "/api/events/stream")
    answer = connection.getresponse()
    assert answer.readline() == b"first\n"
    assert not upstream.proceed.is_set()
    upstream.proceed.set()
    assert answer.read() == b"second\n"
    connection.close()


def test_a_post_that_gets_no_answer_is_sent_once(front: Front, upstream: Upstream) -> None:
    connection = connect(front)
    connection.request("POST", "/hang-up", b"{}", {"Idempotency-Key": "a-key", "Content-Type": "application/json"})
    assert connection.getresponse().status == 502
    connection.close()
    assert [path for path, _, _ in upstream.requests] == ["/hang-up"]


def test_a_version_of_tls_that_is_broken_is_refused(front: Front) -> None:
    old = ssl.create_default_context(cafile=str(front.authority))
    old.set_ciphers("DEFAULT@SECLEVEL=0")  # else this end would not offer it
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", front.tls), PATIENCE) as raw, pytest.raises(ssl.SSLError) as refused:
        old.wrap_socket(raw, server_hostname="localhost")
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize("start", PROXIES.values(), ids=PROXIES)
def test_no_log_has_a_token_or_a_query(
    start: Callable[[Path, int], AbstractContextManager[Front]], tmp_path: Path
) -> None:
    """The upstream is down, so that each request is an error that is logged."""
    secrets = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"__Host-ev={TOKEN}", "X-EventVault-Session": TOKEN}
    with start(tmp_path / "proxy", free_port()) as front:
        for path in ("/api/events?subject=order-4711", f"/api/events?token={TOKEN}", f"/{TOKEN}?a={TOKEN}"):
            connection = connect(front)
            connection.request("POST", path, b"x" * 100_000, secrets)
            assert connection.getresponse().status >= 400
            connection.close()
        log = front.log.read_text()
    assert log
    assert TOKEN not in log


class TestNginx:
    @pytest.fixture
    def bare(self, tmp_path: Path, upstream: Upstream) -> Iterator[Front]:
        """nginx without a certificate."""
        upstream.proceed.set()
        with running_nginx(tmp_path / "nginx", [upstream.server_port]) as running:
            yield running

    @pytest.mark.slow
    def test_it_starts_without_a_certificate_and_takes_it_once_it_is_there(self, bare: Front) -> None:
        plain = http.client.HTTPConnection("127.0.0.1", bare.plain, timeout=PATIENCE)
        plain.request("GET", "/api/health/live")
        assert plain.getresponse().status == 200
        plain.close()
        with pytest.raises(OSError, match="alert"), socket.create_connection(("127.0.0.1", bare.tls), PATIENCE) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
        assert "fullchain.pem" in bare.log.read_text()

        make_certificate(bare.certificates)
        connection = connect(bare)
        connection.request("GET", "/api/health/live")
        assert connection.getresponse().status == 200
        connection.close()

    @pytest.mark.slow
    def test_a_renewed_certificate_is_served_without_a_reload(self, bare: Front) -> None:
        shown = []
        for _ in range(2):
            make_certificate(bare.certificates)
            shown.append(ssl.get_server_certificate(("127.0.0.1", bare.tls), timeout=PATIENCE))
            assert ssl.PEM_cert_to_DER_cert(shown[-1]) == ssl.PEM_cert_to_DER_cert(bare.authority.read_text())
        assert shown[0] != shown[1]

    def test_a_request_without_tls_at_the_port_of_tls_gets_the_error_form(self, bare: Front) -> None:
        make_certificate(bare.certificates)
        connection = http.client.HTTPConnection("127.0.0.1", bare.tls, timeout=PATIENCE)
        connection.request("GET", "/api/health")
        answer = connection.getresponse()
        assert answer.status == 400
        assert "https://" in json.loads(answer.read())["hint"]
        connection.close()

    def test_a_token_in_a_query_is_not_passed_on(self, bare: Front, upstream: Upstream) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", bare.plain, timeout=PATIENCE)
        connection.request("GET", f"/api/events?limit=1&access_token={TOKEN}")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (400, "malformed")
        connection.close()
        assert upstream.requests == []


class TestInstalledCertificate:
    """`deploy/install-certificate`, run for real in a copy of the project's folder."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        (tmp_path / "project" / "deploy").mkdir(parents=True)
        script = tmp_path / "project" / "deploy" / "install-certificate"
        script.write_bytes((PROJECT / "deploy" / "install-certificate").read_bytes())
        script.chmod(0o755)
        return script

    @pytest.mark.root
    @pytest.mark.skipif(os.getuid() != 0, reason="needs root")
    def test_the_key_of_certbot_becomes_readable_for_nginx_alone(self, script: Path, tmp_path: Path) -> None:
        (tmp_path / "archive").mkdir()
        make_certificate(tmp_path / "archive")
        live = tmp_path / "live"
        live.mkdir()
        for name in ("fullchain.pem", "privkey.pem"):  # certbot's are links
            (live / name).symlink_to(tmp_path / "archive" / name)
        for _ in range(2):  # a renewal replaces what is there
            subprocess.run([script], env={**os.environ, "RENEWED_LINEAGE": str(live)}, check=True, timeout=30)
        target = tmp_path / "project" / "certificates"
        assert sorted(path.name for path in target.iterdir()) == ["fullchain.pem", "privkey.pem"]
        for name in ("fullchain.pem", "privkey.pem"):
            installed = target / name
            assert not installed.is_symlink()
            assert installed.read_bytes() == (live / name).read_bytes()
            assert (installed.stat().st_mode & 0o777, installed.stat().st_uid) == (0o400, 101)

    def test_without_a_folder_it_says_what_it_needs(self, script: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "RENEWED_LINEAGE"}
        ran = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=30, check=False)
        assert ran.returncode != 0
        assert "name the folder of fullchain.pem and privkey.pem" in ran.stderr
