"""What `gunicorn.conf.py` does, without gunicorn: addresses, settings, the folder of the workers' metrics."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app import serving
from eventvault.access.changes import TokenChanges
from eventvault.settings import load
from tests.service import PROJECT

Refused = Callable[..., bool]

LOADED = """
import functools, gc, pathlib, sys
import app
from eventvault.store.memory.store import MemoryStore
app.create_app = functools.partial(app.create_app, store=MemoryStore(pathlib.Path(sys.argv[1])))
import wsgi
print(gc.isenabled(), gc.get_freeze_count(), len(gc.get_objects()))
"""
"""Loads `wsgi` with a store in memory, and prints how many objects are set apart, and how many are looked through."""


@pytest.fixture
def refused(settings_environment: dict[str, str]) -> Refused:
    def ends(hosts: list[str], **environment: str) -> bool:
        try:
            serving.exit_if_unprotected(load({**settings_environment, **environment}), hosts)
        except SystemExit as ended:
            return ended.code == 78
        return False

    return ends


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.1.2.3"])
def test_an_address_that_other_machines_reach_is_refused(
    refused: Refused, host: str, settings_environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(["127.0.0.1", host])
    refusal = capsys.readouterr().err
    assert "flask tokens create admin --scope admin" in refusal
    assert "ALLOW_UNAUTHENTICATED=true" in refusal
    assert not refused(["127.0.0.1", host], ALLOW_UNAUTHENTICATED="true")
    assert not refused(["127.0.0.1", host], API_TOKENS_FILE="/nowhere/tokens")
    TokenChanges(load(settings_environment)).create("admin", "admin", by="shell")
    assert not refused(["127.0.0.1", host])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_loopback_is_not_refused(refused: Refused, host: str) -> None:
    assert not refused([host])
    assert not refused([])


def test_the_configured_addresses_of_gunicorn_become_hosts() -> None:
    assert serving.configured_addresses([("0.0.0.0", 5050), "/run/app.sock", 3]) == ["0.0.0.0"]


def test_sockets_become_the_hosts_they_listen_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        assert serving.socket_addresses([tcp, unix]) == ["127.0.0.1"]


def test_a_start_warns_who_has_access(settings_environment: dict[str, str]) -> None:
    def warnings(host: str, **environment: str) -> list[str]:
        found: list[str] = []
        serving.warn_who_has_access(load({**settings_environment, **environment}), [host], found.append)
        return found

    changes = TokenChanges(load(settings_environment))
    assert "this machine" in warnings("127.0.0.1")[0]
    assert "0.0.0.0" in warnings("0.0.0.0", ALLOW_UNAUTHENTICATED="true")[0]
    (closed,) = warnings("0.0.0.0", API_TOKENS_FILE="/nowhere/tokens")
    assert "no token is valid. This makes one: flask tokens create admin --scope admin" in closed
    made = changes.create("admin", "admin", by="shell")
    assert warnings("0.0.0.0", ALLOW_UNAUTHENTICATED="true") == []
    changes.revoke(made.token.id, by="shell")
    assert "no token is valid" in warnings("127.0.0.1")[0]
    (load(settings_environment).backup_dir / "tokens.json").write_text("{")
    assert any("tokens.json is damaged" in warning for warning in warnings("127.0.0.1"))


def test_tokens_that_are_not_valid_stop_a_start(
    settings_environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens"
    settings = load({**settings_environment, "API_TOKENS_FILE": str(path)})
    serving.exit_if_tokens_are_invalid(settings)  # a file that is missing does not
    path.write_text("ci:everything:sha256=x")
    with pytest.raises(SystemExit) as ended:
        serving.exit_if_tokens_are_invalid(settings)
    assert ended.value.code == 78
    assert "entry 1 of API_TOKENS_FILE" in capsys.readouterr().err


def test_every_bad_setting_is_printed_and_the_exit_is_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_BACKUPS", "many")
    monkeypatch.setenv("PORT", "-1")
    with pytest.raises(SystemExit) as ended:
        serving.load_settings_or_exit()
    said = capsys.readouterr().err
    assert ended.value.code == 78
    assert "MAX_BACKUPS is 'many'" in said
    assert "PORT is '-1'" in said


@pytest.mark.parametrize(("host", "bind"), [("127.0.0.1", "127.0.0.1:5050"), ("::1", "[::1]:5050")])
def test_the_bind_address_has_the_form_that_gunicorn_reads(host: str, bind: str) -> None:
    assert serving.bind_address(load({"HOST": host})) == bind


def test_a_start_of_the_service_has_one_id_and_one_metrics_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("EVENTVAULT_MASTER", "EVENTVAULT_SERVICE", "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    left_over = tmp_path / "eventvault-metrics-dead"
    left_over.mkdir()
    (left_over / "lock").touch()

    serving.prepare_service()
    service, folder = os.environ["EVENTVAULT_SERVICE"], Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    serving.prepare_service()
    assert os.environ["EVENTVAULT_SERVICE"] == service
    assert list(tmp_path.iterdir()) == [folder]

    monkeypatch.setenv("EVENTVAULT_MASTER", "1")
    serving.prepare_service()
    assert os.environ["EVENTVAULT_SERVICE"] != service
    assert Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) != folder
    assert folder.is_dir()
    while serving._metrics_locks:
        serving._metrics_locks.pop().close()


def test_the_headers_of_an_event_are_joined_so_that_a_repeated_one_can_be_told() -> None:
    headers = [("HOST", "h"), ("CE-TYPE", "a"), ("X", "1"), ("CE-ID", "1,2"), ("CE-TYPE", "b"), ("X", "2")]
    joined = serving.join_repeated_event_headers(headers)
    assert joined == [("HOST", "h"), ("X", "1"), ("X", "2"), ("CE-TYPE", "a\nb"), ("CE-ID", "1,2")]
    assert serving.join_repeated_event_headers([]) == []


@pytest.mark.slow
def test_no_request_waits_while_all_that_was_loaded_is_searched_for_garbage(
    settings_environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path)],
        env={**os.environ, **settings_environment},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    collects, apart, searched = done.stdout.split()
    assert collects == "True"
    assert int(apart) > 10 * int(searched)
