"""The child process that talks to other machines: to real receivers, with a deadline, and without a secret to see."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault.errors import InvalidSettings
from eventvault.notifications import receivers as module
from eventvault.notifications.receivers import Receivers, Result, check_addresses
from eventvault.settings import PROJECT, Settings
from tests import processes
from tests.ports import free_port
from tests.receivers import Hook, Mailbox, hooked, mail_server

pytestmark = pytest.mark.process
MESSAGE = {"title": "a title", "body": "line 1\nline 2 <b>&</b>", "type": "failure"}


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooked() as one:
        yield one


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as one:
        yield one


def children() -> list[int]:
    found = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return [int(pid) for pid in found if "eventvault.notifications.child" in processes.command_line(int(pid))]


def test_each_receiver_gets_the_message_and_one_that_hangs_delays_no_other(hook: Hook, mailbox: Mailbox) -> None:
    with hooked() as refusing, hooked() as hanging:
        refusing.status, hanging.status = 500, None
        gone = f"json://127.0.0.1:{free_port()}/geheim"
        addresses = [hook.address, mailbox.address, refusing.address, f"{hanging.address}?rto=60", gone]

        results = Receivers().ask("send", dict(enumerate(addresses)), 6.0, **MESSAGE)

    assert (results[0].problem, results[1].problem) == (None, None)
    assert "500" in str(results[2].problem)
    assert results[3].problem == "no answer within 6 s"
    assert results[4].problem
    assert "geheim" not in str(results)
    assert hook.messages[0]["title"] == "a title"
    assert hook.messages[0]["message"] == MESSAGE["body"]
    assert mailbox.titles() == ["a title"]
    assert "line 1" in mailbox.text(0)
    assert (len(hook.messages), len(mailbox.mails)) == (1, 1)


def test_a_redirect_that_loses_the_message_is_no_delivery(hook: Hook) -> None:
    with hooked() as moved:
        moved.status, moved.location = 302, f"http://127.0.0.1:{hook.port}/geheim"
        results = Receivers().ask("send", {0: moved.address}, 6.0, **MESSAGE)
    assert "302" in str(results[0].problem)
    assert (hook.paths, hook.messages) == ([], [])


def test_neither_arguments_nor_environment_show_an_address(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.status = None
    monkeypatch.setenv("NOTIFY_URLS", hook.address)
    monkeypatch.setenv("HTTP_PROXY", "http://geheim@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    receivers = Receivers()
    asking = threading.Thread(target=receivers.ask, args=("send", {0: hook.address}, 30.0), kwargs=MESSAGE)
    asking.start()
    assert hook.arrived.wait(60)
    (child,) = receivers._running
    for name in ("environ", "cmdline"):
        assert b"geheim" not in (Path("/proc") / str(child.pid) / name).read_bytes()
    receivers.stop()
    asking.join(60)
    assert not asking.is_alive()
    assert child.poll() is not None


def test_a_child_that_does_nothing_at_all_is_ended_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    started = module.subprocess.Popen

    def stopped(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return started(["sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *command], **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(module.subprocess, "Popen", stopped)
    began = time.monotonic()
    results = Receivers().ask("send", {3: "json://127.0.0.1/geheim"}, 0.1, **MESSAGE)
    assert results == {3: Result("no answer within 0 s", 0.1)}
    assert time.monotonic() - began < 30
    assert not children()


def test_after_a_stop_nothing_is_sent(hook: Hook) -> None:
    receivers = Receivers()
    receivers.stop()
    (result,) = receivers.ask("send", {0: hook.address}, 5.0, **MESSAGE).values()
    assert result.problem is not None
    assert (hook.messages, children()) == ([], [])


def test_addresses_that_apprise_does_not_know_are_refused_and_named_without_secrets(
    settings_with: Callable[..., Settings],
) -> None:
    wrong = "nosuch://geheim slack://geheim json://localhost/geheim"
    with pytest.raises(InvalidSettings) as caught:
        check_addresses(settings_with({"NOTIFY_URLS": wrong}))
    assert caught.value.message.startswith("NOTIFY_URLS is 'nosuch://… slack://…'; allowed: ")
    assert "geheim" not in f"{caught.value}{caught.value.hint}"


def test_good_addresses_and_none_are_taken(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "ntfy://topic json://localhost:8000/a mailto://ann:word@example.org tgram://123456789:abcdefg_hijklmnop/12315544/"
    check_addresses(settings_with({"NOTIFY_URLS": good}))
    monkeypatch.setattr(module.subprocess, "Popen", None)
    check_addresses(settings_with({}))


def test_where_it_cannot_be_found_out_nothing_is_refused(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.sys, "executable", "/no/such/python")
    check_addresses(settings_with({"NOTIFY_URLS": "nosuch://geheim"}))


def test_neither_the_store_nor_a_worker_imports_apprise() -> None:
    program = (
        "import sys; import wsgi, app.store.__main__, app.store.scheduler, eventvault.notifications.service as s;"
        "from eventvault.settings import load;"
        "s.NotificationService(load({'NOTIFY_URLS': 'json://localhost', 'PING_URL': 'http://localhost'}), dict);"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'apprise', 'smtplib', 'requests'}))"
    )
    environment = {**os.environ, "STORAGE_DIR": "/nonexistent"}
    program = program.replace("import wsgi, ", "import app.factory, app.serving, ")
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
