"""The official CloudEvents SDKs against the service: the same event in each mode is one event, and as it was sent."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from cloudevents.core.bindings import http as core_http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as CoreEvent
from cloudevents.v1 import conversion
from cloudevents.v1.http import CloudEvent

from tests.packages import TARGET, need, prepare
from tests.service import PROJECT, Service

SENDERS = PROJECT / "tests" / "sdks"
PACKAGES = TARGET / "sdks"

SCHEMA = "https://example.com/%7Euser/a%20b.json"
EURO = "/js/%E2%82%ACuro%20path"
BYTES = base64.b64encode(b"\x00\xff%41 \xe4").decode()
EVENTS: dict[str, dict[str, Any]] = {
    "text": {"subject": "sub ject/ü", "source": EURO, "datacontenttype": "text/plain", "text": "grün % %41 €"},
    "bytes": {"subject": "50 %", "datacontenttype": "application/octet-stream", "base64": BYTES},
    "no data": {"subject": "Äöß", "dataschema": SCHEMA, "datacontenttype": "application/json"},
    "json": {"comment": "100 % über, a+b", "datacontenttype": "application/json", "json": {"ä": [1, "%20", None]}},
    "umlauts in an id": {"id": "Größe 1", "datacontenttype": "text/plain", "text": "x"},
    "a percent sign in an id": {
        "id": "100% / 5 % x",
        "source": "urn:a:%C3%BC?b=%2F#%25",
        "datacontenttype": "text/css",
    },
    "quotes inside": {"subject": 'a "b" c', "source": "https://example.com/100%25/%C3%BC", "datacontenttype": "text/x"},
}
"""Text that SDKs without percent-encoding can send too: only characters of Latin-1, and no escapes outside URIs."""
ENCODED = {
    "any text": {"subject": '"€ %41 %25 \\"', "id": "😀%00", "comment": "%FF", "datacontenttype": "a/b"},
    "an escaped percent sign": {"source": "/a%2525b%25", "dataschema": "/%25", "datacontenttype": "a/b"},
}
"""Text that only a sender that percent-encodes can send."""
MODES = {"python": 2, "python v1": 2, "js": 2, "go": 3}


def sendable(sdk: str) -> list[dict[str, Any]]:
    """The events, with an id and a source of their own in each SDK, as the senders read them."""
    events = EVENTS | (ENCODED if sdk == "python" else {})
    made = []
    for name, event in events.items():
        data = {member: event[member] for member in ("text", "base64", "json") if member in event}
        filled = {"id": name, "source": "/s", **{key: text for key, text in event.items() if key not in data}}
        attributes = {
            **filled,
            "id": f"{sdk}/{filled['id']}",
            "type": "com.example.ü",
            "time": "2026-01-31T12:34:56.789Z",
        }
        made.append({"attributes": attributes, **data})
    return made


def stored(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The event as it must be stored."""
    members = {"text": "data", "json": "data", "base64": "data_base64"}
    data = {members[name]: value for name, value in sent.items() if name in members}
    return {"specversion": "1.0", **sent["attributes"], **data}


Write = Callable[[dict[str, Any]], list[tuple[Mapping[str, str], bytes]]]


def write_with_core(sent: dict[str, Any]) -> list[tuple[Mapping[str, str], bytes]]:
    attributes = {
        **sent["attributes"],
        "specversion": "1.0",
        "time": datetime.fromisoformat(sent["attributes"]["time"]),
    }
    event = CoreEvent(attributes, data_of(sent))
    messages = [core_http.to_structured(event, JSONFormat()), core_http.to_binary(event, JSONFormat())]
    return [(message.headers, message.body) for message in messages]


def write_with_v1(sent: dict[str, Any]) -> list[tuple[Mapping[str, str], bytes]]:
    event = CloudEvent(sent["attributes"], data_of(sent))
    plain = None if "json" in sent else lambda data: data
    messages = [conversion.to_structured(event), conversion.to_binary(event, data_marshaller=plain)]
    return [(headers, body.encode() if isinstance(body, str) else body or b"") for headers, body in messages]


def data_of(sent: Mapping[str, Any]) -> Any:
    return base64.b64decode(sent["base64"]) if "base64" in sent else sent.get("text", sent.get("json"))


def send_with_python(write: Write, service: Service, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    replies = []
    for event in events:
        for headers, body in write(event):
            reply = service.post("/api/events", body, headers=headers)
            replies.append({"id": event["attributes"]["id"], "status": reply.status, "reply": reply.json()})
    return replies


def send_with_js(service: Service, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    need("node", "npm")
    folder = PACKAGES / "js"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SENDERS / "js" / name, folder)
    prepare(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return run(["node", str(SENDERS / "js" / "send.mjs"), f"{service.base}/api/events"], folder, events)


def send_with_go(service: Service, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    need("go")
    PACKAGES.mkdir(parents=True, exist_ok=True)
    program = PACKAGES / "go-sender"
    prepare(["go", "build", "-mod=readonly", "-modcacherw", "-o", str(program), "."], SENDERS / "go")
    return run([str(program), f"{service.base}/api/events"], PACKAGES, events)


def run(command: Sequence[str], folder: Path, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ended = subprocess.run(
        command, cwd=folder, input=json.dumps(events).encode(), capture_output=True, timeout=60, check=False
    )
    assert not ended.returncode, ended.stderr.decode()
    replies: list[dict[str, Any]] = json.loads(ended.stdout)
    return replies


SEND: dict[str, Callable[[Service, list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "python": lambda service, events: send_with_python(write_with_core, service, events),
    "python v1": lambda service, events: send_with_python(write_with_v1, service, events),
    "js": send_with_js,
    "go": send_with_go,
}


@pytest.fixture(scope="module")
def running(module_service: Callable[..., Service]) -> Service:
    return module_service(workers=1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sdk", SEND)
def test_an_event_of_an_official_sdk_is_the_same_event_in_each_mode(running: Service, sdk: str) -> None:
    events = sendable(sdk)
    replies = SEND[sdk](running, events)
    assert len(replies) == MODES[sdk] * len(events)
    for number, reply in enumerate(replies):
        first = number % MODES[sdk] == 0
        assert reply["status"] == (201 if first else 200), reply
        assert "differs" not in reply["reply"]["results"][0], reply
    for event in events:
        identity = {name: event["attributes"][name] for name in ("id", "source")}
        read = running.get(f"/api/events?{urlencode(identity, quote_via=quote)}").json()["event"]
        assert {name: value for name, value in read.items() if name not in ("sequence", "recordedtime")} | {
            "time": normal(read["time"])
        } == stored(event)


def normal(time: str) -> str:
    """The text of an instant in UTC, without an SDK's choice of digits and offset."""
    return datetime.fromisoformat(time).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def test_a_repeated_event_header_is_refused(running: Service) -> None:
    for name, values in {"ce-type": "ab", "CE-Subject": "xx", "ce-extra": "12"}.items():
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        connection.putrequest("POST", "/api/events")
        for header in ("ce-specversion: 1.0", "ce-id: r", *(["ce-type: t"] if name != "ce-type" else [])):
            connection.putheader(*header.split(": "))
        for value in values:
            connection.putheader(name, value)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, b"is repeated" in answer.read()) == (400, True), name
        connection.close()
    assert running.get("/api/events?id=r").status == 404
