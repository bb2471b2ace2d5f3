"""TLS: a certificate is checked, by the system's authorities or by a file of one's own."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from app.cli.remote.address import ServiceAddress, tls_of
from app.cli.remote.errors import RemoteError
from app.cli.remote.transport import Transport, get
from tests.served import served


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for `localhost`, which is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.fixture
def port(app: Flask, certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with served(app, tls=context) as url:
        yield int(url.rpartition(":")[2])


def ask(address: ServiceAddress, authority: Path | None) -> bytes:
    return Transport(address, "ev_secret", tls_of(address, authority), patience=0).call(get("/api/health/live"))


@pytest.mark.slow
def test_a_certificate_of_a_trusted_authority_is_accepted(
    port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ServiceAddress("https", "localhost", port)
    assert b'"live"' in ask(address, certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert b'"live"' in ask(address, None)


def test_an_unknown_authority_and_another_name_are_refused(port: int, certificate: Path) -> None:
    for address, authority in (
        (ServiceAddress("https", "localhost", port), None),
        (ServiceAddress("https", "127.0.0.1", port), certificate),
    ):
        with pytest.raises(RemoteError) as refused:
            ask(address, authority)
        assert (refused.value.code, refused.value.exit_status) == ("certificate_refused", 5)
        assert "--ca-file" in refused.value.hint


def test_tls_to_a_server_without_it_is_an_error_of_the_connection(app: Flask) -> None:
    with served(app) as url, pytest.raises(RemoteError) as failed:
        ask(ServiceAddress("https", "127.0.0.1", int(url.rpartition(":")[2])), None)
    assert failed.value.code == "service_unreachable"
