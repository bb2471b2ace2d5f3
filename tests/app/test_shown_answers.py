"""Commands and answers that pages show outside of what can be run from top to bottom: each is run or compared here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import plyvel
import pytest
import yaml
from flask.testing import FlaskClient

from app.access.table import NEEDS
from app.error_codes import ANSWERS, PROBLEMS, error_body
from app.streams import messages
from benchmarks.peers import PEERS
from eventvault import data_folders
from eventvault.database.values import Head
from eventvault.errors import InvalidSettings
from eventvault.imports.mapping import parse_file
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.problems import CONSEQUENCES, Problem
from eventvault.settings import PROJECT, Settings, load
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process
from tests.curl import request_of
from tests.restoring import drafts
from tests.shown import Block, blocks
from tests.stores import running_service

_OF_AN_ERROR = set(error_body("", "", ""))
_OF_A_PROBLEM = set(Problem("stuck", "", "", details={"a": 1}).describe())


def block(page: str, begins: str) -> str:
    """Return the text of a block of a page."""
    (found,) = [each.text for each in blocks(page) if each.text.startswith(begins)]
    return found


def with_beginning(begins: str, *pages: str) -> list[Block]:
    found = [each for page in pages for each in blocks(f"docs/{page}") if each.text.startswith(begins)]
    assert {each.page for each in found} == {f"docs/{page}" for page in pages}
    return found


def members_shown(text: str) -> dict[str, Any]:
    """Return the members of an object that a page shows, with `…` for what it leaves out."""
    whole = re.sub(r'(?<=": )…|(?<=\[)…', '"…"', text)
    shown: dict[str, Any] = json.loads(re.sub(r", …(?=})", "", whole))
    return shown


ACCEPTING = [
    line
    for page in ("clock.md", "journal.md", "problems.md")
    for each in blocks(f"docs/{page}")
    for line in each.text.replace("\\\n", " ").splitlines()
    if each.kind == "indented" and re.match(r"curl .*/api/problems/", line)
]


@pytest.mark.slow
@pytest.mark.parametrize("line", ACCEPTING)
def test_each_problem_is_accepted_as_a_page_says(web: FlaskClient, store: MemoryStore, line: str) -> None:
    request = request_of(line)
    code = request.path.split("/")[3]
    body = json.loads(request.body or "{}")
    store.problems.waiting = [Problem(code, "there it is", "", about=about) for about in ("events/1", "events/2")]
    if "about" not in body:
        store.problems.waiting.pop()
    answer = web.open(request.path, method=request.method, data=request.body, headers=request.headers)
    assert (answer.status_code, answer.json["code"], answer.json["consequence"]) == (200, code, CONSEQUENCES[code])
    assert [problem.about for problem in store.problems.waiting] == (["events/1"] if "about" in body else [])


def test_problems_are_listed_and_accepted_as_the_page_says(
    settings: Settings, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.options.can_ask", lambda: True)
    store.problems.waiting = [Problem("rolled_back", "31 events are not here", "", about="86ad05ce70457cf8")]
    for line in block("docs/problems.md", "flask problems list").splitlines():
        done = in_process(settings, store)(*shlex.split(line)[1:], input="y\n")
        assert done.exit_code == 0, done.output
        assert "31 events are not here" in done.stdout
    assert store.problems.waiting == []


@pytest.mark.parametrize(
    "shown",
    with_beginning('{"code": "', "liveness.md", "notifications.md", "problems.md"),
    ids=lambda shown: shown.page,
)
def test_each_problem_that_a_page_shows_has_its_members_and_a_code(shown: Block) -> None:
    problem = members_shown(shown.text)
    assert problem["code"] in PROBLEMS
    assert problem.keys() <= _OF_A_PROBLEM


@pytest.mark.parametrize(
    "shown", with_beginning('{"success": false', "http.md", "slow-clients.md"), ids=lambda shown: shown.page
)
def test_each_error_that_a_page_shows_has_its_members_and_a_code(shown: Block) -> None:
    error = members_shown(shown.text)
    assert error["code"] in ANSWERS
    assert error.keys() - {"ids"} == _OF_AN_ERROR


def test_each_part_of_health_has_the_members_that_a_page_shows(settings_environment: dict[str, str]) -> None:
    shown = members_shown(block("docs/kafka.md", '{"configured": true'))
    monitor = KafkaMonitor(load({**settings_environment, "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092"}))
    assert shown.keys() == monitor.snapshot().keys()


@pytest.mark.slow
def test_the_report_of_the_doctor_has_what_the_page_shows(settings: Settings) -> None:
    shown = members_shown(block("docs/doctor.md", '{"success": true'))
    with running_service(settings) as service:
        report = json.loads(in_process(settings, service)("doctor", "--json").stdout)
    assert shown.keys() <= report.keys()
    assert shown["checks"][0].keys() == report["checks"][0].keys()
    for name in ("versions", "sizes"):
        assert shown[name].keys() <= report[name].keys()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/migration.md", "docs/from-cron-and-tar.md"])
def test_a_database_that_was_packed_as_a_page_says_is_restored(settings: Settings, tmp_path: Path, page: str) -> None:
    database = tmp_path / "old" / "storage" / "event_registry_db"
    database.parent.mkdir(parents=True)
    with plyvel.DB(str(database), create_if_missing=True) as old:
        old.put(b"!events!0042", b'{"id":"42","type":"order.created"}')
    settings.restore_dir.mkdir(parents=True, exist_ok=True)
    script = (
        block(page, "tar czf").replace("/srv/app/storage", "storage").replace(" restore/", f" {settings.restore_dir}/")
    )
    subprocess.run(["sh", "-ec", script], cwd=database.parent.parent, check=True, timeout=60)
    if not list(settings.restore_dir.glob("*.tar.gz")):  # the next step of the page, in words
        shutil.copy(tmp_path / "old" / "node-events.tar.gz", settings.restore_dir)
    with running_service(settings) as service:
        assert orjson.loads(service.get("42"))["type"] == "order.created"


@pytest.mark.slow
def test_a_record_becomes_the_event_of_the_page(settings: Settings, tmp_path: Path) -> None:
    key, value = re.findall(r"^(?:key|value) +(.*)$", block("docs/migration.md", "key    !events"), re.MULTILINE)
    with plyvel.DB(str(tmp_path / "event_registry_db"), create_if_missing=True) as old:
        old.put(key.encode(), value.encode())
    settings.restore_dir.mkdir(parents=True, exist_ok=True)
    packed = settings.restore_dir / "node.tar.gz"
    subprocess.run(["tar", "czf", packed, "-C", tmp_path, "event_registry_db"], check=True, timeout=60)
    with running_service(settings) as service:
        event = service.get("42").decode()
    shown = block("docs/migration.md", '{"specversion"').replace("\n ", "").strip()
    assert re.sub('(?<="recordedtime":")[^"]*', "…", event) == shown


def test_the_mapping_of_the_page_is_one() -> None:
    text = block("docs/import.md", '{"type": "kind"')
    assert len(parse_file(text.encode()).fields) == len(json.loads(text))


@pytest.mark.slow
def test_a_small_file_has_the_checksum_that_the_page_computes(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(1))
        service.create_backup()
    catalogue = (settings.backup_dir / data_folders.CATALOGUE).read_text()
    command = block("docs/format.md", "sed 2d")
    done = subprocess.run(
        ["sh", "-ec", command], cwd=settings.backup_dir, capture_output=True, text=True, check=True, timeout=60
    )
    assert catalogue.splitlines()[1].strip() == f'"checksum": "sha256:{done.stdout.split()[0]}",'
    first, checksum, form, *_ = block("docs/format.md", "{\n").splitlines()
    assert [first, checksum.split(":")[0]] == ["{", catalogue.splitlines()[1].split(":")[0]]
    assert re.sub(r"\d+", "1", catalogue.splitlines()[2]) == form


@pytest.mark.slow
def test_an_archive_of_format_1_is_checked_by_hand(tmp_path: Path) -> None:
    if shutil.which("jq") is None or shutil.which("xxd") is None:
        pytest.skip("there is no jq or no xxd, which the page uses")
    used = PROJECT / "tests" / "fixtures" / "installation-0.1.0" / "used.tar.gz"
    subprocess.run(["tar", "xzf", used, "-C", tmp_path], check=True, timeout=60)
    archive = next(path for path in tmp_path.rglob("backup_*.tar.gz"))
    subprocess.run(["tar", "xzf", archive], cwd=archive.parent, check=True, timeout=60)
    command = block("docs/format.md", "jq -r '.files[] | \"\\(.sha256)").replace(
        "backup_2026-01-31_123457.tar.gz", archive.name
    )
    done = subprocess.run(
        ["sh", "-ec", command], cwd=archive.parent, capture_output=True, text=True, check=True, timeout=60
    )
    *files, digest, computed = done.stdout.splitlines()
    assert files
    assert all(line.endswith(": OK") for line in files)
    assert computed.split()[0] == digest


@pytest.mark.slow
def test_the_audit_is_verified_as_the_page_says(settings: Settings) -> None:
    with running_service(settings) as service:
        for _ in range(8):
            service.append(drafts(1, "more"))
            service.create_backup()
        shown = block("docs/audit.md", "$ flask audit verify").splitlines()
        done = in_process(settings, service)(*shlex.split(shown[0])[2:])
    assert re.sub(r"\d+ (file|line)s?", r"<n> \1s", done.stdout.strip()) == re.sub(
        r"\d+ (file|line)s?", r"<n> \1s", shown[1]
    )
    (file,) = (settings.backup_dir / "audit").glob("audit-*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    command = re.sub(r"backups/audit/audit-[\d-]+\.jsonl", shlex.quote(str(file)), block("docs/audit.md", "sed -n 12p"))
    digest = subprocess.run(
        ["sh", "-ec", command], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()[0]
    assert lines[12]["previous"] == digest


def test_a_schedule_that_is_none_is_refused_in_the_words_of_the_page(settings_environment: dict[str, str]) -> None:
    command, refusal = block("docs/schedules.md", "$ make run").splitlines()
    setting = dict([shlex.split(command)[-1].split("=", 1)])
    with pytest.raises(InvalidSettings) as refused:
        load({**settings_environment, **setting})
    assert refusal in refused.value.message


@pytest.mark.parametrize(
    ("page", "begins"),
    [
        ("docs/notifications.md", "NOTIFY_URLS="),
        ("docs/proxies.md", "TRUSTED_PROXIES="),
        ("docs/tls.md", "TLS_ADDRESS="),
    ],
)
def test_the_addresses_of_the_page_are_allowed(settings_environment: dict[str, str], page: str, begins: str) -> None:
    words = [word for word in shlex.split(block(page, begins)) if "=" in word]
    named = dict(word.split("=", 1) for word in words)
    named.pop("TLS_ADDRESS", None)  # of compose
    settings = load({**settings_environment, **named})
    assert named
    assert settings


def test_a_stream_is_written_as_the_page_shows() -> None:
    shown = block("docs/streams.md", "id: 86ad").splitlines()
    generation, _, sequence = shown[0].removeprefix("id: ").partition(":")
    data = shown[2].removeprefix("data: ")
    last_id = messages.id_of(Head(generation, int(sequence)))
    assert messages.message("event", data.encode(), last_id).decode() == "\n".join(shown) + "\n\n"
    script = block("docs/streams.md", "const events")
    sent = set(re.findall(r'\bmessage\("(\w+)"', (PROJECT / "app" / "streams" / "events.py").read_text()))
    assert set(re.findall(r"addEventListener\('(\w+)'", script)) <= sent
    (address,) = re.findall(r"EventSource\('([^'?]*)", script)
    assert f"GET {address}" in NEEDS


def test_each_addition_to_compose_fits() -> None:
    compose = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
    additions = [yaml.safe_load(each.text) for each in blocks("docs/containers.md") if each.kind == "yaml"]
    assert len(additions) == 4
    for addition in additions:
        assert addition["services"].keys() <= compose["services"].keys()
        for name, service in addition["services"].items():
            declared = set(addition.get("secrets", {})) | set(compose.get("secrets", {}))
            assert set(service.get("secrets", [])) <= declared, name
            if "command" in service:
                assert service["command"][:3] == compose["services"][name]["command"][:3]


@pytest.mark.slow
def test_a_command_takes_its_settings_from_the_file_of_the_unit(
    tmp_path: Path, settings_environment: dict[str, str]
) -> None:
    command = block("docs/systemd.md", "sudo sh -c").removeprefix("sudo ")
    unit = (PROJECT / "deploy" / "eventvault.service").read_text()
    assert "EnvironmentFile=-/etc/eventvault.env\n" in unit or "EnvironmentFile=/etc/eventvault.env\n" in unit
    file = tmp_path / "eventvault.env"
    file.write_text("\n".join(f"{name}={value}" for name, value in settings_environment.items()) + "\nMAX_BACKUPS=77\n")
    program = f"{sys.executable} -m app.cli"
    command = command.replace("/etc/eventvault.env", str(file)).replace("/srv/eventvault/.venv/bin/eventvault", program)
    done = subprocess.run(
        ["sh", "-ec", command.rstrip().removesuffix("'") + " --json'"],
        cwd=PROJECT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    settings = {each["name"]: each["value"] for each in json.loads(done.stdout)["settings"]}
    assert settings["MAX_BACKUPS"] == 77


def test_the_commands_of_the_benchmark_are_those_that_were_measured() -> None:
    text = block("docs/benchmarks.md", "# EventVault: beside")
    for peer in PEERS:
        part = text.split(f"\n# {peer.name}: ")[1].split("\n\n")[0]
        assert part.splitlines()[1:] == [each for each in (peer.setup, peer.first, peer.second, peer.restore) if each]
