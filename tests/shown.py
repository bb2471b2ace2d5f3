"""What the documents show: each block, the command lines in it, and the test that runs or compares it.

`sh` and `json` blocks and sessions (`$ …`) of the pages in `RUN` are run by the tests there. `PROVEN` names the test of
each other block; where that test does not read the page, the reason stands beside it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from tests.service import PROJECT

GENERATED = {"docs/errors.md", "docs/modules.md"}
"""Their own tests compare them with what they are made from."""
PAGES = sorted(
    page
    for page in (
        "README.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        *(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")),
    )
    if page not in GENERATED
)
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)((?:(?: {4}| {7}).*\n(?:\n(?=    ))?)+)")
_DRAWN = re.compile("[┌┐└┘├┤]")


class Block(NamedTuple):
    """kind: `sh`, `json`, `session` or another language of a fenced block; `indented` without a fence."""

    page: str
    kind: str
    text: str


class Proof(NamedTuple):
    """begins: how the block begins. test: the file of the test. why: it does not read the page, if it does not."""

    page: str
    begins: str
    test: str
    why: str = ""


def blocks(page: str) -> Iterator[Block]:
    """Yield each block of a page but drawings. Code in the middle of a sentence is none."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    for indent, kind, content in _FENCED.findall(text):
        content = re.sub(f"^{indent}", "", content, flags=re.MULTILINE)
        yield Block(page, kind or ("session" if content.startswith("$ ") else "text"), content)
    for content in _INDENTED.findall(_FENCED.sub("", text)):
        if not _DRAWN.search(content):
            yield Block(page, "indented", textwrap.dedent(content))


RUN = {
    "docs/command-line.md": "tests/end_to_end/test_command_line.py",
    "docs/doctor.md": "tests/end_to_end/test_doctor.py",
    "docs/import.md": "tests/end_to_end/test_event_processes.py",
    "docs/jobs.md": "tests/end_to_end/test_jobs_docs.py",
    "docs/remote.md": "tests/end_to_end/test_remote.py",
    "docs/restore-at-3-am.md": "tests/end_to_end/test_restore_at_3_am.py",
    "docs/notifications.md": "tests/end_to_end/test_notifications.py",
    "docs/sessions.md": "tests/end_to_end/test_sessions.py",
    "docs/tls.md": "tests/end_to_end/test_guide_over_tls.py",
    **dict.fromkeys(
        (
            "README.md", "docs/audit.md", "docs/disk.md", "docs/exports.md", "docs/first-ten-minutes.md",
            "docs/from-cron-and-tar.md", "docs/histogram.md", "docs/http.md", "docs/idempotency.md", "docs/journal.md",
            "docs/monitoring.md", "docs/operations.md", "docs/past.md", "docs/polling.md", "docs/rehearsals.md",
            "docs/retention.md", "docs/schedules.md", "docs/streams.md", "docs/undo.md",
        ),
        "tests/end_to_end/test_pages.py",
    ),
}  # fmt: skip
"""The page → the test that runs its `sh` and `json` blocks, or its sessions."""

_COMMANDS = "tests/app/test_shown_commands.py"
_ANSWERS = "tests/app/test_shown_answers.py"
_TOKENS = "tests/app/test_token_commands.py"
_SYSTEMD = "tests/deploy/test_systemd.py"
_BY_HAND = "tests/eventvault/archive/test_by_hand.py"
_INSTALLS = "it installs on the machine; programs, options and files are checked"
_CONTAINERS = "it needs a container engine; services, commands and settings are checked"
_BROKER = "its programs are Kafka's own; the test sends and takes the same messages"

PROVEN = [
    Proof("README.md", "make run", "tests/end_to_end/test_make_run.py", "it runs make by itself"),
    Proof("SECURITY.md", "flask tokens rotate", _TOKENS, "NAME is any"),
    Proof("docs/access.md", "flask tokens create", _TOKENS),
    Proof("docs/access.md", "curl ", "tests/end_to_end/test_access.py"),
    Proof("docs/access.md", "token=$(openssl", _TOKENS),
    Proof("docs/audit.md", "$ flask audit verify", _ANSWERS),
    Proof("docs/audit.md", "sed -n 12p", _ANSWERS),
    Proof("docs/benchmarks.md", "# EventVault: beside", _ANSWERS),
    Proof("docs/clock.md", "curl -X POST localhost:5050/api/problems", _ANSWERS),
    Proof(
        "docs/clock.md", "curl -X POST localhost:5050/api/backup", "tests/end_to_end/test_clock.py", "it reads the hint"
    ),
    Proof("docs/command-line.md", ".venv/bin/eventvault backup list", _COMMANDS, _CONTAINERS),
    Proof(
        "docs/command-line.md", "eventvault completion", "tests/end_to_end/test_completion.py", "it keeps to its folder"
    ),
    Proof("docs/containers.md", "docker-compose", _COMMANDS, _CONTAINERS),
    Proof("docs/containers.md", "git pull", _COMMANDS, _CONTAINERS),
    Proof("docs/containers.md", "PIP_INDEX_URL", "tests/deploy/test_container.py", _CONTAINERS),
    Proof("docs/containers.md", "services:", _ANSWERS),
    Proof("docs/doctor.md", '{"success": true', _ANSWERS),
    Proof(
        "docs/failing-disks.md", "curl -s localhost:5050", "tests/end_to_end/test_full_disk.py", "it fills a disk first"
    ),
    Proof(
        "docs/failing-disks.md", '"code": "disk_failed"', "tests/end_to_end/test_bad_sector.py", "it has a bad sector"
    ),
    Proof("docs/format.md", "archive=/path/to", _BY_HAND),
    Proof("docs/format.md", "root=$(tail", _BY_HAND),
    Proof("docs/format.md", "key=$(jq", _BY_HAND),
    Proof("docs/format.md", "jq -r '.entries[]", _BY_HAND),
    Proof("docs/format.md", "entry='.entries[]", _BY_HAND),
    Proof("docs/format.md", "jq -r '.files[] | \"\\(.sha256)", _ANSWERS),
    Proof("docs/format.md", "{", _ANSWERS),
    Proof("docs/format.md", "sed 2d", _ANSWERS),
    Proof("docs/from-cron-and-tar.md", "0 * * * *", _COMMANDS, "it is what the page warns of"),
    Proof("docs/from-cron-and-tar.md", "tar czf", _ANSWERS),
    Proof("docs/from-cron-and-tar.md", "15 * * * *", _COMMANDS, "it needs another machine"),
    Proof(
        "docs/from-cron-and-tar.md",
        "flask backup rehearse",
        "tests/end_to_end/test_rehearsals.py",
        "its folder differs",
    ),
    Proof("docs/guarantees.md", ".venv/bin/pytest", "tests/app/test_guarantees.py"),
    Proof("docs/import.md", '{"type": "kind"', _ANSWERS),
    Proof("docs/import.md", "── went back", "tests/end_to_end/test_event_processes.py"),
    Proof("docs/jobs.md", "from marshmallow import", "tests/end_to_end/test_jobs_docs.py"),
    Proof("docs/jobs.md", "import reports", "tests/end_to_end/test_jobs_docs.py"),
    Proof(
        "docs/jobs.md",
        "make worker WORKER",
        "tests/worker/test_worker_without_broker.py",
        "its folder and module differ",
    ),
    Proof("docs/jobs.md", "systemctl stop eventvault", "tests/crash/test_jobs.py", "it damages a database first"),
    Proof("docs/jobs.md", "make run STORAGE_DIR", "tests/crash/test_jobs_over_kafka.py", _BROKER),
    Proof("docs/jobs.md", "echo '{", "tests/crash/test_jobs_over_kafka.py", _BROKER),
    Proof("docs/journal.md", "curl -s -X POST localhost:5050/api/problems", _ANSWERS),
    Proof("docs/journal.md", "flask backup recover", "tests/end_to_end/test_recover.py", "each test loses a database"),
    Proof("docs/kafka.md", "make run KAFKA", "tests/end_to_end/test_kafka_first_steps.py", _BROKER),
    Proof("docs/kafka.md", "(umask 077;", "tests/eventvault/kafka/test_secured.py", _BROKER),
    Proof("docs/kafka.md", "# Lines that begin", "tests/eventvault/kafka/test_secured.py", _BROKER),
    Proof("docs/kafka.md", 'flask backup restore --at "#2"', "tests/end_to_end/test_kafka_restores.py", _BROKER),
    Proof("docs/kafka.md", '{"again": true', "tests/end_to_end/test_kafka_restores.py", _BROKER),
    Proof("docs/kafka.md", "flask events diff now now", "tests/end_to_end/test_kafka_restores.py", _BROKER),
    Proof("docs/kafka.md", "$ flask kafka status", "tests/app/test_kafka_commands.py"),
    Proof("docs/kafka.md", "flask kafka accept", "tests/end_to_end/test_kafka_loss.py", "it needs a loss"),
    Proof(
        "docs/kafka.md",
        "curl -s 'localhost:5050/api/kafka/quarantine",
        "tests/end_to_end/test_kafka_quarantine.py",
        "its topic has another name",
    ),
    Proof(
        "docs/kafka.md",
        "flask kafka quarantine",
        "tests/end_to_end/test_kafka_quarantine.py",
        "its topic has another name",
    ),
    Proof("docs/kafka.md", '{"configured": true', _ANSWERS),
    Proof("docs/kafka.md", "curl -s -d", "tests/end_to_end/test_publishing.py"),
    Proof("docs/kafka.md", '{"success": true, "accepted": 1', "tests/end_to_end/test_publishing.py"),
    Proof("docs/kafka.md", '{"topic": "published"', "tests/end_to_end/test_publishing.py"),
    Proof("docs/liveness.md", '{"code": "stuck"', _ANSWERS),
    Proof("docs/migration.md", "tar czf", _ANSWERS),
    Proof("docs/migration.md", "key    !events", _ANSWERS),
    Proof("docs/migration.md", '{"specversion"', _ANSWERS),
    Proof("docs/monitoring.md", "# prometheus.yml", "tests/deploy/test_monitoring.py"),
    Proof("docs/notifications.md", "NOTIFY_URLS=", _ANSWERS),
    Proof("docs/notifications.md", '{"code": "notify_failing"', _ANSWERS),
    Proof(
        "docs/operations.md", "curl -s -X DELETE", "tests/app/test_operations.py", "the page has none that runs so long"
    ),
    Proof("docs/problems.md", '{"code": "rolled_back"', _ANSWERS),
    Proof("docs/problems.md", "curl -X POST", _ANSWERS),
    Proof("docs/problems.md", "flask problems list", _ANSWERS),
    Proof("docs/proxies.md", "TRUSTED_PROXIES", _COMMANDS, "a proxy stands in front of the examples of TLS"),
    Proof("docs/rehearsals.md", "flask backup rehearse", "tests/end_to_end/test_rehearsals.py", "its folder differs"),
    Proof("docs/schedules.md", "$ make run", _ANSWERS),
    Proof("docs/settings.md", "make run PORT", "tests/end_to_end/test_make_run.py", "its port is a free one"),
    Proof("docs/slow-clients.md", '{"success": false', _ANSWERS),
    Proof("docs/http.md", '{"success": false', _ANSWERS),
    Proof("docs/streams.md", "id: 86ad", _ANSWERS),
    Proof("docs/streams.md", "const events", _ANSWERS),
    Proof("docs/systemd.md", "sudo useradd", _COMMANDS, _INSTALLS),
    Proof("docs/systemd.md", "STORAGE_DIR=", _SYSTEMD),
    Proof("docs/systemd.md", "[Unit]", _SYSTEMD),
    Proof("docs/systemd.md", "sudo cp deploy", _COMMANDS, _INSTALLS),
    Proof("docs/systemd.md", "cd /srv/eventvault", _COMMANDS, _INSTALLS),
    Proof("docs/systemd.md", "sudo sh -c", _ANSWERS),
    Proof("docs/systemd.md", "systemd-analyze security", _SYSTEMD),
    Proof("docs/tls.md", "TLS_ADDRESS=", "tests/deploy/test_container.py", "compose reads it"),
    Proof("docs/tls.md", "curl -H", "tests/end_to_end/test_guide_over_tls.py"),
    Proof("docs/tls.md", "sudo certbot", _COMMANDS, "it needs a public name"),
    Proof("docs/tls.md", "openssl req", "tests/certificates.py"),
    Proof("docs/tls.md", "sudo apt-get", _COMMANDS, _INSTALLS),
    Proof("docs/trust.md", "flask backup trust", "tests/app/test_trust.py"),
    Proof("docs/worker.md", "KAFKA_BOOTSTRAP", "tests/worker/test_worker_process.py", _BROKER),
    Proof("docs/worker.md", '{"id"', "tests/worker/test_worker_page.py", _BROKER),
    Proof("docs/worker.md", "# my_jobs.py", "tests/worker/test_worker_page.py"),
    Proof("docs/worker.md", "from worker.testing", "tests/worker/test_worker_page.py"),
    Proof(
        "docs/worker.md", "WORKER_JOBS=", "tests/worker/test_worker_without_broker.py", "its folder and module differ"
    ),
    Proof("docs/worker.md", "python -m worker.heartbeat", "tests/worker/test_worker_process.py", _BROKER),
]
"""Each of these blocks, by its page and its beginning, and its test."""


def is_proven(block: Block) -> bool:
    """Return whether a test runs the block, as one of its page or by itself."""
    is_beginning = block.text.startswith("try=$(mktemp -d)")
    is_run = block.page in RUN and (block.kind in ("sh", "json", "session") or is_beginning)
    return is_run or bool(proofs_of(block))


def proofs_of(block: Block) -> list[Proof]:
    """Return the proofs of a block that `RUN` does not name."""
    return [proof for proof in PROVEN if proof.page == block.page and block.text.startswith(proof.begins)]
