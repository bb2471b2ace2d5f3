"""Certificates for tests, made by openssl: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """Two files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """An authority of its own in `folder`. certificate: its file, which clients trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.certificate = folder / f"{name}.pem"
        if not self.certificate.exists():
            _openssl(
                *("req", "-x509", "-days", "2", "-subj", f"/CN={name}", *_new_key(self._key)),
                *("-addext", "basicConstraints=critical,CA:TRUE", "-out", str(self.certificate)),
            )

    def issue(self, name: str, *, expired: bool = False, password: str = "", host: str = "localhost") -> Certificate:
        """A certificate for 127.0.0.1 and `host`. password: of its key."""
        key, request, certificate = (self._folder / f"{name}.{ending}" for ending in ("key", "csr", "pem"))
        names = f"subjectAltName=DNS:{host}" + (",IP:127.0.0.1" if host == "localhost" else "")
        _openssl("req", "-new", "-subj", f"/CN={name}", "-addext", names, *_new_key(key), "-out", str(request))
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)),
            *("-CAcreateserial", "-copy_extensions", "copy", "-days", "-1" if expired else "2"),
            *("-out", str(certificate)),
        )
        if password:
            _openssl("pkcs8", "-topk8", "-in", str(key), "-out", f"{key}.enc", "-passout", f"pass:{password}")
            key = Path(f"{key}.enc")
        return Certificate(certificate, key)


def _new_key(path: Path) -> tuple[str, ...]:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
