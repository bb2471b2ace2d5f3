"""The real service notifies real receivers, and nothing that goes wrong there touches anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.command_line import Command
from tests.pages import run_page
from tests.ports import free_port
from tests.receivers import Hook, Mailbox, hooked, mail_server
from tests.service import GUNICORN, Service

QUICK = (*GUNICORN[:-1], "tests.quick_notifications_wsgi:app")
"""The service, in which a minute of notifications is a second."""
MANUAL = {"AUTO_BACKUP_ENABLED": "false"}
SECRET = "geheim"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooked() as one:
        yield one


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as one:
        yield one


def health(running: Service) -> dict[str, Any]:
    found: dict[str, Any] = running.get("/api/health").json()
    return found


def metrics(running: Service) -> str:
    return running.get("/metrics").body.decode()


def block(folder: Path) -> Path:
    """Put a file in the place of a folder. Returns where the folder is now."""
    aside = folder.rename(folder.with_name("aside"))
    folder.write_text("in the way")
    return aside


def test_mail_and_webhook_get_one_message_for_a_failed_backup_and_one_for_its_end_across_a_restart(
    service: Callable[..., Service], hook: Hook, mailbox: Mailbox, settings_environment: dict[str, str]
) -> None:
    environment = {"NOTIFY_URLS": f"{hook.address} {mailbox.address}", "AUTO_BACKUP_INTERVAL": "1000"}
    folder = Path(settings_environment["BACKUP_DIR"])
    first = service(workers=1, environment=environment, command=QUICK)
    first.post("/api/events", {"type": "a"})
    processes.wait_until(lambda: health(first)["backup"]["count"], "no backup is made")

    aside = block(folder)
    first.post("/api/events", {"type": "a"})
    processes.wait_until(lambda: hook.messages and mailbox.mails, "nobody is told of the failure")
    processes.wait_until(lambda: "eventvault_notifications_waiting 0.0" in metrics(first), "it is not noted")
    first.stop()
    folder.unlink()
    aside.rename(folder)
    second = service(workers=1, environment=environment, command=QUICK)
    processes.wait_until(lambda: health(second)["status"] == "ok", "it does not recover")

    def told(ended: bool) -> list[str]:
        parts = [message["message"].partition("Over:\n")[2 if ended else 0] for message in hook.messages]
        return [text for text in parts if "- backup_failed, " in text]

    processes.wait_until(lambda: told(ended=True), "nobody is told of its end")
    processes.wait_until(lambda: len(mailbox.mails) == len(hook.messages), "the mail does not come")
    assert (len(told(ended=False)), len(told(ended=True))) == (1, 1)
    assert mailbox.titles() == hook.titles()


def test_receivers_that_hang_refuse_or_are_gone_change_nothing_else(
    service: Callable[..., Service], hook: Hook, settings_environment: dict[str, str]
) -> None:
    with hooked() as refusing, hooked() as hanging:
        refusing.status, hanging.status = 500, None
        gone = f"json://127.0.0.1:{free_port()}/{SECRET}"
        addresses = [f"{hanging.address}?rto=1", refusing.address, gone, hook.address]
        ping = f"http://127.0.0.1:{hanging.port}/{SECRET}"
        environment = {"NOTIFY_URLS": " ".join(addresses), "PING_URL": ping, "AUTO_BACKUP_INTERVAL": "1000"}
        running = service(workers=2, environment=environment, command=QUICK)
        running.post("/api/events", {"type": "a"})
        name = running.post("/api/backup/create").json()["name"]
        assert running.post("/api/backup/restore", {"backupName": name}).status == 200
        processes.wait_until(lambda: hook.messages, "the good address is not told of the restore")
        assert hanging.arrived.wait(60)

        seen = [content for pid in running.processes() for content in visible(pid)]
        for number in range(20):
            assert running.post("/api/events", {"type": "a", "id": str(number)}, timeout=30).status == 201
        assert running.post("/api/backup/create").status == 200
        processes.wait_until(lambda: len(failing(running)) == 4, "health does not name the receivers")
        assert not any("notify_failing" in message["message"] for message in hook.messages), "nobody is told of that"
        answers = [running.get(path).body for path in ("/api/health", "/metrics", "/openapi.json")]
        assert b"eventvault_notifications_failed_total" in answers[1]
        assert b"eventvault_notifications_waiting 0.0" not in answers[1]
        running.stop()

    files = [path.read_bytes() for path in Path(settings_environment["STORAGE_DIR"]).glob("*") if path.is_file()]
    assert not any(SECRET.encode() in text for text in [*seen, *answers, *files, running.log().encode()])


def visible(pid: int) -> Iterator[bytes]:
    """What other users of the machine see of a process, and what those of the same user see of its environment."""
    for name in ("cmdline", "environ"):
        with suppress(OSError):  # it has ended
            yield (Path("/proc") / str(pid) / name).read_bytes()


def failing(running: Service) -> set[str]:
    return {problem["about"]["name"] for problem in health(running)["problems"] if problem["code"] == "notify_failing"}


def test_scheduled_backups_ping_their_start_success_and_failure(
    service: Callable[..., Service], hook: Hook, settings_environment: dict[str, str]
) -> None:
    environment = {"PING_URL": f"http://127.0.0.1:{hook.port}/uuid", "AUTO_BACKUP_INTERVAL": "1000"}
    running = service(workers=1, environment=environment)
    running.post("/api/events", {"type": "a"})
    processes.wait_until(lambda: hook.paths[:2] == ["/uuid/start", "/uuid"], "no success is told")
    processes.wait_until(lambda: len(hook.paths) >= 6, "a run that is skipped is not told")
    assert set(hook.paths) == {"/uuid/start", "/uuid"}
    aside = block(Path(settings_environment["BACKUP_DIR"]))
    processes.wait_until(lambda: "/uuid/fail" in hook.paths, "no failure is told")
    assert aside.exists()


def test_an_address_that_apprise_does_not_know_stops_the_start(service: Callable[..., Service], flask: Command) -> None:
    environment = {"NOTIFY_URLS": f"json://localhost/{SECRET} nosuch://{SECRET}"}
    refused = service(workers=1, environment=environment, wait=False)
    assert refused.process.wait(60) == 78
    assert "NOTIFY_URLS is 'nosuch://…'; allowed: addresses of Apprise, separated by blanks" in refused.log()
    assert SECRET not in refused.log()
    assert not refused.folder("STORAGE_DIR").joinpath("event_registry_db").exists()

    run = flask("run", "--port", str(free_port()), **environment)
    assert (run.returncode, SECRET in run.stdout + run.stderr) == (78, False)


def test_a_test_is_sent_with_and_without_a_service_as_the_page_says(
    service: Callable[..., Service], flask: Command, hook: Hook
) -> None:
    environment = {"NOTIFY_URLS": hook.address, **MANUAL}
    alone = flask("notify", "test", **environment)
    assert (alone.returncode, alone.stdout.partition("  ")[0]) == (0, f"json://127.0.0.1:{hook.port}/…")
    assert "delivered in" in alone.stdout
    running = service(workers=1, environment=environment)
    run_page("docs/notifications.md", running.port)
    assert len(hook.messages) == 2
    hook.status = 500
    (delivery,) = running.post("/api/notify/test").json()["deliveries"]
    assert (delivery["delivered"], "500" in delivery["problem"]) == (False, True)
    assert health(running)["status"] == "ok"
