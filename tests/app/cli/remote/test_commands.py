"""Each command with `--url`: a service behind HTTP in this process, and what it prints, asks and exits with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from app.cli import options
from app.cli.root import root
from app.factory import create_app
from eventvault.database.values import ScanQuery
from eventvault.jobs.job import JobType
from eventvault.jobs.memory_jobs import MemoryJobs
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore
from eventvault.store.service import StoreService
from tests.restoring import drafts
from tests.scripted_http import json_answer, scripted
from tests.served import served
from tests.stores import folders_beneath, running_service

ON_ITS_MACHINE = {"backup recover", "backup trust", "doctor", "audit verify"}
WITHOUT_A_STORE = {"completion", "help"}


@dataclass
class Vault:
    """A service, and its command line from another machine."""

    url: str
    service: StoreService
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, status: int = 0, **more: Any) -> Result:
        done = CliRunner(env=self.environment).invoke(root(), ["--url", self.url, *words], **more)
        assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
        assert "No service runs" not in done.stderr
        return done

    def json(self, *words: str, status: int = 0) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self(*words, "--json", status=status).stdout)
        assert answer["success"] is (status in (0, 8))
        return answer

    def events(self) -> int:
        return self.service.scan(ScanQuery(limit=1)).last_sequence


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    settings = load(folders_beneath(tmp_path / "server"))
    with running_service(settings) as service, served(create_app(settings, service, shared_seconds=0.0)) as url:
        service.append(drafts(3, "first"))
        # Nothing of this machine may be needed: its folders cannot even be made.
        (tmp_path / "file").write_text("")
        away = {name: str(tmp_path / "file" / "x") for name in folders_beneath(tmp_path)}
        yield Vault(url, service, {**away, "MAX_BACKUPS": "not a number", "EVENTVAULT_TOKEN": ""})


@pytest.fixture
def archive(vault: Vault) -> str:
    """The name of a backup of three events; two more were posted since."""
    name = vault.service.create_backup("first").backup.name
    vault.service.append(drafts(2, "second"))
    return name


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "can_ask", lambda: True)


@pytest.mark.slow
def test_backup_create(vault: Vault) -> None:
    done = vault("backup", "create", "before the migration")
    (entry,) = vault.service.list_backups()
    first, second = done.stdout.splitlines()
    assert (first, entry.label) == (entry.name, "before the migration")
    assert second.startswith("  3 events, ")
    assert "backing up" in done.stderr
    assert vault.json("backup", "create")["events"] == 3
    operation = vault("backup", "create", "x", "--detach").stdout.strip()
    assert vault.service.get_operation(operation).kind == "create"


@pytest.mark.slow
def test_backup_list_show_and_timeline(vault: Vault, archive: str) -> None:
    vault.service.pin_backup(archive, pinned=True, reason="audit")
    assert vault("backup", "list", "-q").stdout == f"{archive}\n"
    assert vault.json("backup", "list")["backups"][0]["pin"] == {"reason": "audit", "until": None}
    assert "⚑" in vault("backup", "list").stdout
    assert "3 events" not in vault("backup", "show", archive).stdout
    assert vault.json("backup", "show", archive)["manifest"]["events"] == 3
    assert vault.json("backup", "show", "none.tar.gz", status=3)["code"] == "backup_not_found"
    assert "present" in vault("backup", "timeline").stdout


@pytest.mark.slow
def test_backup_restore_and_undo(vault: Vault, archive: str, somebody: None) -> None:
    assert "set aside      2 events" in vault("backup", "restore", archive, input="n\n", status=1).output
    assert vault.json("backup", "restore", archive, "--dry-run")["plan"]["eventsLeftBehind"] == 2
    assert f"Back at {archive}: 3 events" in vault("backup", "restore", archive, input="y\n").stdout
    assert vault.events() == 3
    assert f"restore of {archive}" in vault("backup", "undo", "--list").stdout
    assert "As it was: 5 events" in vault("backup", "undo", "--yes").stdout
    assert vault.json("backup", "restore", "--at", "#2", "--yes")["events"] == 2
    generation = vault.json("backup", "timeline")["generations"][0]["id"]
    assert vault.json("backup", "restore", "--at", f"{generation}@", "--yes")["events"] == 5
    for how in (["--dry-run"], ["--yes"]):
        refused = vault("backup", "restore", "--at", "#2", "--replay", *how, status=5)
        assert "Kafka is not configured" in refused.stderr
    too_early = vault("backup", "restore", "--at", "2020-01-01", "--yes", status=3)
    assert "HINT: " in too_early.stderr
    assert "/api/" not in too_early.stderr


@pytest.mark.slow
def test_backup_restore_into(vault: Vault, archive: str, tmp_path: Path) -> None:
    vault.service.restore(archive)
    vault.service.undo()
    name = vault.service.create_backup("five").backup.name
    vault.service.restore(archive)
    path = tmp_path / "lost.ndjson"
    assert vault.json("backup", "restore", name, "--into", str(path), "--from-sequence", "4")["events"] == 2
    assert [json.loads(line)["sequence"] for line in path.read_bytes().splitlines()] == [4, 5]
    assert vault("backup", "restore", name, "--into", "-", "--from-sequence", "4").stdout_bytes == path.read_bytes()
    asked = ("backup", "restore", name, "--into", "present", "--from-sequence", "3", "--to-sequence", "4", "--yes")
    assert vault(*asked).stdout == "2 events match: 1 appended as new, 1 there already.\n"
    assert vault.json("backup", "restore", "--at", "#2", "--into", "present", "--yes")["alreadyThere"] == 2
    assert vault.events() == 4
    vault("backup", "restore", "--at", "2020-01-01", "--into", "-", status=3)
    exports = [line for line in vault.service.read_audit(limit=1000).lines if line.action == "export"]
    assert [(line.state, line.who) for line in exports] == [("begun", "open"), ("ended", "open")] * 2


@pytest.mark.slow
def test_backup_verify(vault: Vault, archive: str) -> None:
    assert "every byte is as it was made" in vault("backup", "verify", archive).stdout
    assert "every record was read" in vault("backup", "verify", "--records", archive).stdout
    Path(vault.service.create_backup("second").backup.path).write_bytes(b"\x1f\x8b damaged")
    assert len(vault.json("backup", "verify", "--all", status=8)["failed"]) == 1


@pytest.mark.slow
def test_backup_pin_unpin_and_delete(vault: Vault, archive: str) -> None:
    vault("backup", "pin", archive, "--reason", "audit", "--until", "2100-01-31T00:00:00Z")
    (entry,) = vault.service.list_backups()
    assert entry.pin is not None
    assert entry.pin.reason == "audit"
    vault.service.create_backup("second")
    assert vault.json("backup", "delete", archive, "--yes", status=4)["code"] == "backup_protected"
    vault("backup", "unpin", archive)
    vault("backup", "delete", archive, "--yes")
    assert archive not in [entry.name for entry in vault.service.list_backups()]


@pytest.mark.slow
def test_backup_prune_and_rehearse(vault: Vault, archive: str) -> None:
    assert vault.json("backup", "prune", "--dry-run")["plan"]["remove"] == []
    assert vault.json("backup", "prune", "--yes")["removed"] == []
    assert vault.json("backup", "rehearse", archive)["rehearsal"]["ok"]
    assert "Restored" in vault("backup", "rehearse").stdout


@pytest.mark.slow
def test_backup_download_and_upload(vault: Vault, archive: str, tmp_path: Path) -> None:
    content = Path(vault.service.backup_path(archive)).read_bytes()
    vault("backup", "download", archive, "-o", str(tmp_path))
    assert (tmp_path / archive).read_bytes() == content
    assert vault.json("backup", "download", archive, "-o", str(tmp_path), status=4)["code"] == "backup_exists"
    assert vault("backup", "download", archive, "-o", "-").stdout_bytes == content
    assert vault.json("backup", "download", "none.tar.gz", "-o", str(tmp_path), status=3)["code"] == "backup_not_found"
    assert [path.name for path in tmp_path.glob("*.gz")] == [archive]
    done = vault("backup", "upload", str(tmp_path / archive), "--name", "copy.tar.gz")
    assert "copy.tar.gz was taken in" in done.stdout
    assert vault.json("backup", "upload", str(tmp_path / archive), status=4)["code"] == "backup_exists"
    vault("backup", "upload", "-", "--name", "piped.tar.gz", input=content)
    assert Path(vault.service.backup_path("piped.tar.gz")).read_bytes() == content
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(content[:-300])
    assert vault("backup", "upload", str(damaged), status=5).stderr


@pytest.mark.slow
def test_operations(vault: Vault, archive: str) -> None:
    (newest,) = (entry["id"] for entry in vault.json("operations", "list", "--limit", "1")["operations"])
    assert newest in vault("operations").stdout
    assert vault.json("operations", "watch", newest[:6])["operation"]["state"] == "succeeded"
    assert vault.json("operations", "cancel", newest, status=4)["code"] == "operation_ended"
    assert vault.json("operations", "watch", "f" * 16, status=3)["code"] == "operation_not_found"


@pytest.mark.slow
def test_problems_and_notify(vault: Vault) -> None:
    assert vault("problems", "list").stdout == "No problems.\n"
    assert vault.json("problems", "accept", "rolled_back", "--yes", status=3)["code"] == "nothing_to_accept"
    assert vault.json("notify", "test", status=78)["code"] == "notify_not_configured"


@pytest.mark.slow
def test_events_in_and_out(vault: Vault, tmp_path: Path) -> None:
    assert vault("events", "post", "order.paid", "--id", "p1", "--data", '{"n": 1.50}').stdout == "#4 on disk\n"
    assert '"n":1.50' in vault("events", "get", "p1").stdout
    assert vault.json("events", "get", "nobody", status=3)["code"] == "event_not_found"
    lines = [{"type": "a", "id": f"i{number}", "data": number} for number in range(2500)]
    file = tmp_path / "in.ndjson"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, {"id": "without a type"}]))
    vault.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    done = vault.json("events", "import", str(file), "--rejects", str(tmp_path / "bad.ndjson"), status=8)
    assert (done["new"], vault.events()) == (2500, 2504)
    assert vault.json("events", "import", str(file), status=8)["new"] == 0
    assert list((tmp_path / "state" / "eventvault" / "imports").iterdir())
    vault("events", "export", "-o", str(tmp_path / "out.ndjson"), "--type", "a")
    written = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert [each["data"] for each in written] == list(range(2500))


@pytest.mark.slow
def test_events_counted_followed_and_compared(vault: Vault, archive: str) -> None:
    assert vault("events", "count").stdout == "5\n"
    assert vault.json("events", "count", "--by", "type")["events"] == 5
    assert vault.json("events", "count", "--as-of", "#3")["events"] == 3
    assert len(vault("events", "tail", "-n", "2").stdout.splitlines()) == 2
    for words in (("events", "diff"), ("backup", "diff")):
        compared = vault(*words, archive, "now", "--summary").stdout
        assert "both share the first 3 events" in compared


@pytest.mark.slow
def test_kafka(vault: Vault) -> None:
    assert vault("kafka", "status", status=78).stderr
    assert vault("kafka", "accept", "events/2", "--yes", status=78).stderr
    assert vault.json("kafka", "quarantine", "list", "--reason", "x", "--limit", "2")["quarantine"] == []
    assert vault("kafka", "quarantine", "show", "events/2@1", status=3).stderr
    assert vault("kafka", "quarantine", "replay", "events/2@1", "--as", "binary", status=3).stderr
    assert vault("kafka", "quarantine", "drop", "events/2@1", "--yes", status=3).stderr
    assert vault("kafka", "quarantine", "drop", "--all", "--yes").stdout == "There is none.\n"


@pytest.mark.slow
def test_audit(vault: Vault) -> None:
    vault("backup", "create")
    deeds = vault.json("audit", "show", "--action", "create")["deeds"]
    assert [(deed["action"], deed["result"]) for deed in deeds] == [("create", "done")]


@pytest.mark.slow
def test_tokens(vault: Vault) -> None:
    made = vault("tokens", "create", "admin", "--scope", "admin")
    assert "The service is closed from now on" in made.stderr
    assert vault.json("backup", "list", status=4)["code"] == "token_missing"
    vault.environment["EVENTVAULT_TOKEN"] = made.stdout.strip()
    cron = vault.json("tokens", "create", "cron", "--scope", "backup", "--expires", "90d")
    found = {token["name"]: token["from"] for token in vault.json("tokens", "list")["tokens"]}
    assert found == {"admin": "open", "cron": "admin"}
    assert vault("tokens", "rotate", "cron").stdout.startswith("ev_")
    assert "is revoked" in vault("tokens", "revoke", cron["id"]).stdout
    assert "run it there, without --url" in vault("tokens", "disable", "--yes", status=2).stderr
    vault.environment["EVENTVAULT_TOKEN"] = cron["token"]
    refused = vault("backup", "create", status=4)
    assert "EVENTVAULT_TOKEN" in refused.stderr
    assert cron["token"] not in refused.output


@pytest.mark.slow
@pytest.mark.parametrize("words", [["backup", "recover", "--yes"], ["backup", "trust", "--list"], ["audit", "verify"],
                                   ["doctor"], ["backup", "rehearse", "--from", "."]])  # fmt: skip
def test_what_works_on_the_machine_of_the_service_says_so(vault: Vault, words: list[str]) -> None:
    refused = vault(*words, status=2)
    assert "run it on its machine" in refused.stderr
    assert vault.json(*words, status=2)["code"] == "invalid"


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_the_address_stands_before_or_behind_the_command_or_in_the_environment(vault: Vault, before: bool) -> None:
    words = ["backup", "list", "-q"]
    address = ["--url", vault.url, "--insecure"]
    line = [*address, *words] if before else [*words, *address]
    assert CliRunner(env=vault.environment).invoke(root(), line).exit_code == 0
    environment = {**vault.environment, "EVENTVAULT_URL": vault.url}
    assert CliRunner(env=environment).invoke(root(), words).exit_code == 0
    here = CliRunner(env=environment).invoke(root(), [*words, "--url", ""])
    assert (here.exit_code, "MAX_BACKUPS" in here.stderr) == (78, True), "the settings of this machine count"


@pytest.mark.parametrize("url", ["http://10.1.2.3:5050", "nonsense", "https://user:pa55@vault.example"])
def test_an_address_that_may_not_be_used_is_a_wrong_command_line(url: str) -> None:
    refused = CliRunner().invoke(root(), ["backup", "list", "--url", url])
    assert (refused.exit_code, "pa55" in refused.output) == (2, False)
    assert (
        json.loads(CliRunner().invoke(root(), ["backup", "list", "--url", url, "--json"]).stdout)["code"] == "invalid"
    )


def test_what_is_allowed_for_one_of_two_services_is_not_for_the_other() -> None:
    plain, other = ["--url", "http://10.1.2.3:5050"], ["--to-url", "http://10.1.2.4:5050"]

    def refused(*words: str) -> str:
        done = CliRunner().invoke(root(), ["events", "diff", "#1", "now", *words])
        assert done.exit_code == 2
        return done.stderr

    assert "10.1.2.4:5050 is plain HTTP" in refused("--url", "http://127.0.0.1:9", "--insecure", *other)
    assert "add --to-insecure if" in refused("--url", "http://127.0.0.1:9", *other)
    assert "10.1.2.3:5050 is plain HTTP" in refused(*plain, *other, "--to-insecure")
    assert "--to-url: 'nowhere'" in refused("--url", "http://127.0.0.1:9", "--to-url", "nowhere")
    assert "goes with --to-url" in refused("--to-insecure")


HOSTILE = "\x1b]0;owned\x07\u202e"
HOSTILE_IN_JSON = r"\u001b]0;owned\u0007\u202e"


@pytest.mark.parametrize(
    ("words", "answered"),
    [
        (["backup", "timeline"], '{"success": true}'),
        (["backup", "timeline"], '{"window": 5, "generations": [{"id": 1}], "gaps": "none"}'),
        (["backup", "timeline"], '{"window": null, "generations": [], "gaps": [{"first": "a"}]}'),
        (["problems", "list"], '{"problems": [{}], "store": {"state": "serving"}}'),
        (["backup", "restore", "a.tar.gz", "--dry-run"], '{"plan": {}}'),
        (["backup", "prune", "--dry-run"], '{"plan": {"keep": 3}}'),
        (["tokens", "list"], '{"tokens": [{}]}'),
    ],
)
def test_an_answer_that_lacks_what_is_printed_is_no_traceback(words: list[str], answered: str) -> None:
    with scripted(*[json_answer("200 OK", answered)] * 9) as server:
        done = CliRunner().invoke(root(), ["--url", server.url, *words])
        assert done.exit_code == 1, done.output
        assert "is not what this command expects" in done.stderr
        assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    ("words", "answered"),
    [
        (["backup", "list"], '{"backups": [{"name": "%s", "path": "%s", "size": 1, "label": "%s", "problem": "%s",'
                             ' "created": "2026-01-31T12:00:00.000Z"}], "window": null}'),
        (["backup", "show", "%s.x"], '{"backups": [{"name": "%s.x", "path": "%s", "size": 1, "origin": "%s",'
                                     ' "created": "2026-01-31T12:00:00.000Z", "digest": "%s"}]}'),
        (["operations", "list"], '{"operations": [{"id": "%s", "kind": "%s", "state": "%s", "startedBy": "%s",'
                                 ' "startedAt": "2026-01-31T12:00:00.000Z", "error": {"error": "%s"}}]}'),
        (["backup", "undo", "--list"], '{"undo": [{"name": "%s", "left": "2026-01-31T12:00:00Z", "size": 1,'
                                       ' "source": "%s"}]}'),
        (["tokens", "list"], '{"tokens": [{"id": "%s", "name": "%s", "scope": "%s", "expires": null, "expired": false,'
                             ' "lastUsed": null, "from": "%s"}]}'),
        (["problems", "list"], '{"problems": [{"code": "%s", "message": "%s", "hint": "%s", "since": "%s",'
                               ' "about": {"name": "%s"}, "acceptable": true}], "store": {"state": "%s"}}'),
        (["tokens", "create", "a", "--scope", "read"],
         '{"tokens": [], "token": "%s", "id": "%s", "name": "%s", "scope": "read"}'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_hostile_service_sends_does_not_control_the_terminal(
    words: list[str], answered: str, as_json: bool
) -> None:
    line = [word.replace("%s", HOSTILE) for word in words]
    with scripted(*[json_answer("200 OK", answered.replace("%s", HOSTILE_IN_JSON))] * 9) as server:
        done = CliRunner().invoke(root(), ["--url", server.url, *line, *(["--json"] if as_json else [])])
    assert "owned" in done.output, done.exception
    assert not {"\x1b", "\x07", "\u202e"} & set(done.output)


def commands_of(group: click.Command, *words: str) -> Iterator[str]:
    if not isinstance(group, click.Group):
        loaded = getattr(group, "loaded", None)
        command = loaded() if loaded is not None else group
        if isinstance(command, click.Group):
            yield from commands_of(command, *words)
        else:
            yield " ".join(words)
        return
    for name, command in group.commands.items():
        yield from commands_of(command, *words, name)


@pytest.mark.slow
def test_jobs(tmp_path: Path) -> None:
    jobs = MemoryJobs()
    jobs.offer(JobType(name="echo"))
    settings = load(folders_beneath(tmp_path))
    app = create_app(settings, MemoryStore(settings.backup_dir), jobs=jobs, shared_seconds=0.0)
    with served(app) as url:
        vault = Vault(url, None, {"EVENTVAULT_TOKEN": ""})  # type: ignore[arg-type]  # no events are asked for
        assert vault.json("jobs", "submit", "echo", '{"a": 1}', "--id", "one")["results"][0]["id"] == "one"
        assert "echo" in vault("jobs", "list").stdout
        assert vault.json("jobs", "show", "one")["job"]["payload"] == {"a": 1}
        assert [each["type"] for each in vault.json("jobs", "types")["types"]] == ["echo"]
        vault("jobs", "pause", "echo")
        vault("jobs", "resume", "echo")
        vault("jobs", "cancel", "one", "--yes")
        assert vault.json("jobs", "list", "--state", "cancelled")["jobs"][0]["id"] == "one"
        vault("jobs", "watch", "one", status=6)
        vault("jobs", "retry", "one", "--yes")
        vault("jobs", "schedule", "nightly", "echo", "--cron", "0 3 * * *")
        assert [each["name"] for each in vault.json("jobs", "schedules")["schedules"]] == ["nightly"]
        vault("jobs", "unschedule", "nightly")
        assert vault.json("jobs", "schedules")["schedules"] == []


def test_every_command_is_run_over_http_by_a_test_of_this_module() -> None:
    text = Path(__file__).read_text().replace('"', "").replace(",", "")
    missing = [
        words
        for words in commands_of(root())
        if words not in ON_ITS_MACHINE and words.split()[0] not in WITHOUT_A_STORE and words not in text
    ]
    assert missing == []
