"""`flask events …` on a store in this process."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from backports import zstd
from click.testing import CliRunner, Result

from app.cli.connection import Connection
from app.cli.root import root
from eventvault.audit.lines import AuditLine
from eventvault.database.values import ScanQuery
from eventvault.errors import NoSpace
from eventvault.restore.values import Moment
from eventvault.settings import Settings, load
from eventvault.store.service import StoreService
from tests.command_line import in_process
from tests.stores import folders_beneath, running_service

Events = Callable[..., Result]

HOSTILE = "\x1b]0;owned\x07 \u202etxt.exe \u2066 \x9b31m [bold]x[/bold]"


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in a folder of their own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def runner(settings: Settings, service: StoreService) -> Events:
    """Runs `flask events …` on that store."""

    return partial(in_process(settings, service), "events")


@pytest.fixture
def events(settings: Settings, service: StoreService) -> Events:
    return runner(settings, service)


@pytest.fixture
def new_orders(events: Events) -> Events:
    """The store has ten events: odd ones are created, even ones paid."""
    assert events("import", "-", "--name", "orders", input=ndjson(*orders_of(10))).exit_code == 0
    return events


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreService]:
    """A store with ten events, which tests share that change nothing."""
    settings = load(folders_beneath(tmp_path_factory.mktemp("ordered")))
    with running_service(settings) as service:
        done = runner(settings, service)("import", "-", "--name", "orders", input=ndjson(*orders_of(10)))
        assert done.exit_code == 0, done.output
        yield service


@pytest.fixture
def orders(settings: Settings, ordered: StoreService) -> Events:
    return runner(settings, ordered)


def orders_of(count: int) -> list[dict[str, Any]]:
    return [
        {"type": f"order.{'paid' if number % 2 == 0 else 'created'}", "id": f"o{number}", "source": f"s{number % 3}",
         "subject": f"orders/{number}", "data": {"number": number}}
        for number in range(1, count + 1)
    ]  # fmt: skip


def ndjson(*values: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


def answer(result: Result, status: int = 0) -> dict[str, Any]:
    assert result.exit_code == status, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def stored(service: StoreService) -> list[Any]:
    return [orjson.loads(value) for value in service.scan(ScanQuery(limit=1000)).events]


@pytest.mark.slow
def test_an_import_says_how_many_events_are_in(events: Events, service: StoreService) -> None:
    Path("a.ndjson").write_bytes(ndjson(*orders_of(5)))
    done = events("import", "a.ndjson")
    assert done.stdout == "5 events are in: 5 new, 0 there already.\n"
    assert done.stderr == "importing\n"
    again = events("import", "a.ndjson")
    assert again.stdout == (
        "An earlier run had done everything up to line 5.\n5 events are in: 0 new, 5 there already.\n"
    )
    assert [event["id"] for event in stored(service)] == ["o1", "o2", "o3", "o4", "o5"]


@pytest.mark.slow
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"])
def test_an_import_reads_compressed_files_whatever_their_names(events: Events, pack: Callable[..., bytes]) -> None:
    Path("a.txt").write_bytes(pack(ndjson(*orders_of(3))))
    assert answer(events("import", "a.txt", "--json"))["new"] == 3


@pytest.mark.slow
def test_an_import_reads_an_array_of_cloudevents(events: Events) -> None:
    Path("a.json").write_bytes(orjson.dumps(orders_of(3), option=orjson.OPT_INDENT_2))
    assert answer(events("import", "a.json", "--json"))["new"] == 3
    Path("b.json").write_bytes(ndjson(*orders_of(4)))
    assert answer(events("import", "b.json", "--format", "cloudevents", "--json"))["events"] == 4


@pytest.mark.slow
def test_an_import_of_a_table_by_a_mapping_or_a_file_with_one(events: Events, service: StoreService) -> None:
    Path("a.csv").write_text("kind;n\nx;1.50\ny;2\n")
    Path("map.json").write_text('{"type": "kind", "data.n": {"column": "n", "as": "number"}}')
    assert answer(events("import", "a.csv", "--map", "type=kind,data.n:number=n", "--json"))["new"] == 2
    assert [(event["type"], event["data"]) for event in stored(service)] == [("x", {"n": 1.5}), ("y", {"n": 2})]
    assert b'{"n":1.50}' in service.scan(ScanQuery()).events[0]
    again = answer(events("import", "a.csv", "--map", "@map.json", "--name", "other", "--json"))
    assert again["new"] == 2


@pytest.mark.slow
def test_an_import_lists_what_it_rejected_and_exits_8(events: Events) -> None:
    Path("a").write_bytes(b'{"type":"a"}\n' + b"{\n" * 3 + b'{"type":1}\n{"type":2}\n')
    done = events("import", "a", "--rejects", "bad.ndjson")
    assert done.exit_code == 8
    first, second, third, fourth = done.stdout.splitlines()
    assert first == "1 event is in: 1 new, 0 there already. 5 lines were rejected: bad.ndjson."
    assert second.startswith("  line 2            400  the record is not JSON: ")
    assert third.startswith("  line 5            422  type: ")
    assert fourth == "  2 more of the first kind, 1 of the second."
    lines = [json.loads(line) for line in Path("bad.ndjson").read_bytes().splitlines()]
    assert [(line["line"], line["code"]) for line in lines] == [
        (2, "malformed"), (3, "malformed"), (4, "malformed"), (5, "invalid"), (6, "invalid"),
    ]  # fmt: skip
    again = answer(events("import", "a", "--rejects", "bad.ndjson", "--json"), 8)
    assert (again["success"], again["rejected"], again["resumedAt"]) == (True, 5, 6)


@pytest.mark.slow
def test_an_import_of_a_file_that_is_cut_off_says_so_and_exits_8(events: Events) -> None:
    packed = gzip.compress(ndjson(*orders_of(5000)))
    Path("a.gz").write_bytes(packed[: len(packed) // 2])
    done = events("import", "a.gz")
    assert done.exit_code == 8
    assert "The input is not whole: it ends within its gzip data" in done.stdout
    assert "What came before is in." in done.stdout
    Path("a.gz").write_bytes(packed)
    assert answer(events("import", "a.gz", "--json"))["events"] == 5000


@pytest.mark.slow
def test_a_dry_run_shows_three_events_and_imports_nothing(events: Events, service: StoreService) -> None:
    Path("a").write_bytes(b"{\n" + ndjson({"type": "a"}, *orders_of(5)))
    done = events("import", "a", "--dry-run")
    assert [orjson.loads(line)["type"] for line in done.stdout.splitlines()] == ["a", "order.created", "order.paid"]
    assert "line 1 " in done.stderr
    assert stored(service) == []
    shown = answer(events("import", "a", "--dry-run", "--json"))
    assert [event["type"] for event in shown["events"]] == ["a", "order.created", "order.paid"]
    assert [each["line"] for each in shown["rejected"]] == [1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["import", "missing"], 5), (["import", "."], 5), (["import", "a", "--map", "x"], 5),
        (["import", "a", "--map", "@missing"], 5), (["import", "a", "--delimiter", "ab"], 2),
        (["import", "a", "--name", "\x1b"], 2), (["import", "a", "--rejects", "a"], 4), (["import", "noise"], 5),
        (["import", "a", "--rejects", "/dev/null"], 5), (["import", "a", "--rejects", "x/y"], 5),
        (["export", "-o", "/dev/null", "--overwrite"], 5),
        (["get", "none"], 3), (["export", "-o", "a"], 4), (["export", "-o", "."], 5), (["export", "-o", "x/y"], 5),
        (["export", "--as-of", "#99"], 3), (["diff", "#99", "now"], 3), (["diff", "x", "now"], 2),
        (["diff", "none.tar.gz", "now"], 3), (["post", "a", "--data", "{"], 5), (["post", "a", "--data", "@none"], 5),
        (["post", "\x1b"], 5), (["post", "-", "--subject", "x"], 2), (["tail", "-n", "-1"], 2),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_so_and_changes_nothing(
    orders: Events, ordered: StoreService, arguments: list[str], status: int
) -> None:
    Path("a").write_bytes(b'{"type":"a"}\n')
    Path("noise").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = orders(*arguments)
    assert done.exit_code == status, done.output
    assert "\x1b" not in done.output
    failed = answer(orders(*arguments, "--json"), status)
    assert failed["success"] is False
    assert failed["error"]
    assert failed["hint"]
    assert len(stored(ordered)) == 10
    assert sorted(path.name for path in Path().iterdir()) == ["a", "noise"]


def test_export_writes_all_events_as_stored(orders: Events, ordered: StoreService) -> None:
    values = ordered.scan(ScanQuery()).events
    assert orders("export").stdout_bytes == b"\n".join(values) + b"\n"
    done = orders("export", "-o", "all.ndjson")
    assert done.stdout.startswith("all.ndjson  10 events, ")
    assert Path("all.ndjson").read_bytes() == b"\n".join(values) + b"\n"


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--type", "order.paid"], [2, 4, 6, 8, 10]), (["--type", "*.paid"], [2, 4, 6, 8, 10]),
        (["--type", "order.*"], list(range(1, 11))), (["--subject", "orders/3"], [3]),
        (["--source", "s0"], [3, 6, 9]), (["--source", "s0", "--type", "*paid"], [6]),
        (["--from", "1 h ago"], list(range(1, 11))), (["--to", "1 h ago"], []), (["--as-of", "#4"], [1, 2, 3, 4]),
        (["--type", "none"], []),
    ],
)  # fmt: skip
def test_filters_select_events(orders: Events, options: list[str], numbers: list[int]) -> None:
    shown = orders("export", *options)
    assert [orjson.loads(line)["data"]["number"] for line in shown.stdout.splitlines()] == numbers
    assert answer(orders("count", *options, "--json"))["events"] == len(numbers)
    if "--as-of" not in options:
        tailed = orders("tail", "-n", "100", "--json", *options)
        assert [orjson.loads(line)["data"]["number"] for line in tailed.stdout.splitlines()] == numbers


@pytest.mark.slow
@pytest.mark.parametrize(("name", "unpack"), [("a.gz", gzip.decompress), ("a.zst", zstd.decompress)])
def test_an_export_is_compressed_by_its_name_and_can_be_imported(
    orders: Events, name: str, unpack: Callable[..., bytes]
) -> None:
    done = answer(orders("export", "-o", name, "--json"))
    text = unpack(Path(name).read_bytes())
    assert (done["events"], done["bytes"], done["size"]) == (10, len(text), Path(name).stat().st_size)
    assert done["lastSequence"] == 10
    again = answer(orders("import", name, "--json"))
    assert (again["new"], again["already"]) == (0, 10)


def test_an_export_replaces_a_file_only_if_it_is_asked_to(orders: Events) -> None:
    Path("a").write_text("precious")
    assert orders("export", "-o", "a").exit_code == 4
    assert Path("a").read_text() == "precious"
    assert orders("export", "-o", "a", "--overwrite").exit_code == 0
    assert len(Path("a").read_bytes().splitlines()) == 10
    assert [path.name for path in Path().iterdir()] == ["a"]


def exports(service: StoreService) -> list[AuditLine]:
    return [line for line in service.read_audit(limit=1000).lines if line.action == "export"]


@pytest.mark.slow
def test_the_audit_has_an_export_as_one_over_http(new_orders: Events, service: StoreService) -> None:
    printed = new_orders("export", "--as-of", "#7")
    written = answer(new_orders("export", "-o", "a.gz", "--type", "order.paid", "--json"))
    found = exports(service)
    assert [(line.state, line.who, line.target, line.result) for line in found] == [
        ("begun", "shell", "#1 to #7", None), ("ended", "shell", "#1 to #7", "done"),
        ("begun", "shell", "#1 to #10", None), ("ended", "shell", "#1 to #10", "done"),
    ]  # fmt: skip
    assert [line.details for line in found[::2]] == [{"streamed": True}] * 2
    assert [line.details["bytes"] for line in found[1::2]] == [len(printed.stdout_bytes), written["size"]]


@pytest.mark.parametrize(
    ("error", "result"),
    [(NoSpace("it is full", hint=""), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(1), "interrupted")],
)
def test_the_audit_has_what_ended_an_export(
    settings: Settings, service: StoreService, error: BaseException, result: str
) -> None:
    def end_early() -> None:
        with Connection(settings, service).exporting("#1 to #2") as deed:
            deed.results["bytes"] = 5
            raise error

    with pytest.raises(type(error)):
        end_early()
    ended = exports(service)[-1]
    assert (ended.state, ended.result, ended.details["bytes"]) == ("ended", result, 5)


@pytest.mark.slow
def test_an_export_of_a_future_that_was_left_behind(new_orders: Events, service: StoreService) -> None:
    generation = service.scan(ScanQuery(limit=1)).generation
    service.restore_moment(Moment(sequence=4))
    new_orders("post", "later")
    assert len(new_orders("export").stdout.splitlines()) == 5
    assert len(new_orders("export", "--as-of", f"{generation}@").stdout.splitlines()) == 10


def test_tail_shows_the_newest_events_on_a_line_each(orders: Events) -> None:
    lines = orders("tail", "-n", "2").stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        '     9  order.created         orders/9            {"number":9}'.strip(),
        '    10  order.paid            orders/10           {"number":10}'.strip(),
    ]
    assert len(orders("tail").stdout.splitlines()) == 10
    assert orders("tail", "-n", "0").stdout == ""
    assert len(orders("tail", "-n", "5000").stdout.splitlines()) == 10


def test_count_counts_each_type_source_and_subject(orders: Events) -> None:
    assert orders("count").stdout == "10\n"
    lines = [line.split()[:2] for line in orders("count", "--by", "type", "--utc").stdout.splitlines()]
    assert lines == [["TYPE", "EVENTS"], ["order.created", "5"], ["order.paid", "5"]]
    by_source = answer(orders("count", "--by", "source", "--json"))
    assert [(group["source"], group["events"]) for group in by_source["groups"]] == [("s1", 4), ("s0", 3), ("s2", 3)]
    assert by_source["groups"][0]["last"]["sequence"] == 10
    assert len(answer(orders("count", "--by", "subject", "--json"))["groups"]) == 10


def test_count_by_the_index_is_what_counting_each_event_gives(orders: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.events.count.WINDOW", 3)
    by_index = answer(orders("count", "--by", "type", "--json"))
    assert by_index == answer(orders("count", "--by", "type", "--from", "2000-01-01", "--json"))
    monkeypatch.setattr("app.cli.events.count.MOST_TYPES", 2)
    assert by_index == answer(orders("count", "--by", "type", "--json"))


def test_count_counts_what_is_beyond_too_many_groups_together(orders: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.events.count.MOST_GROUPS", 4)
    monkeypatch.setattr("app.cli.events.count.SHOWN", 3)
    counted = answer(orders("count", "--by", "subject", "--json"))
    assert (len(counted["groups"]), counted["others"], counted["events"]) == (4, 6, 10)
    lines = orders("count", "--by", "subject").stdout.splitlines()
    assert lines[-2:] == [
        "1 more: flask events count --by subject --all", "6 events more, of subjects beyond the first 4.",
    ]  # fmt: skip


def test_get_takes_the_beginning_of_an_id_that_no_other_has(events: Events, service: StoreService) -> None:
    events("post", "order.paid", "--id", "paid-1")
    assert events("get", "pa").stdout_bytes == events("get", "paid-1").stdout_bytes == service.get("paid-1") + b"\n"
    assert events("get", "paid-12").exit_code == 3


def test_get_prints_the_event_byte_for_byte(orders: Events, ordered: StoreService) -> None:
    value = ordered.get("o3")
    assert orders("get", "o3").stdout_bytes == value + b"\n"
    assert answer(orders("get", "o3", "--json"))["event"] == orjson.loads(value)
    assert orders("get", "o3", "--source", "s1").exit_code == 3
    assert orders("get", "o10").stdout_bytes == ordered.get("o10") + b"\n"
    several = orders("get", "o")
    assert (several.exit_code, several.stderr.splitlines()[0]) == (
        5, "the ids of several events begin with 'o': o1, o10, o2, o3, o4, …",
    )  # fmt: skip
    assert orders("get", "o3", "--as-of", "1 h ago").exit_code == 3
    assert orders("get", "o3", "--source", "s0", "--as-of", "2100-01-01").exit_code in (0, 3)


@pytest.mark.slow
def test_post_stores_an_event_once(events: Events, service: StoreService) -> None:
    arguments = ("post", "order.created", "--subject", "orders/1", "--id", "x", "--data", '{"total": 19.90}')
    assert events(*arguments).stdout == "#1 on disk\n"
    assert events(*arguments).stdout == "#1 was there already\n"
    assert b'"data":{"total":19.90}' in service.get("x")
    differs = events("post", "other", "--id", "x")
    assert differs.exit_code == 4
    assert differs.stdout == "#1 was there already\nx differs from #1, which stays.\n"
    assert answer(events("post", "b", "--json"))["lastSequence"] == 2


def test_post_reads_data_and_whole_events_from_files_and_standard_input(events: Events, service: StoreService) -> None:
    Path("data.json").write_text("[1, 2]")
    assert events("post", "a", "--id", "1", "--data", "@data.json").exit_code == 0
    assert events("post", "a", "--id", "2", "--data", "-", input="true").exit_code == 0
    assert events("post", "a", "--id", "3", "--data", "hello", "--content-type", "text/plain").exit_code == 0
    assert [event["data"] for event in stored(service)] == [[1, 2], True, "hello"]
    assert events("post", "-", input=ndjson(*orders_of(3))).stdout == "3 events on disk, 0 there already.\n"
    assert events("post", "-", input='[{"type":"b"},{"type":1}]').exit_code == 5
    assert len(stored(service)) == 6


@pytest.mark.slow
def test_diff_shows_what_only_one_of_two_moments_has(new_orders: Events, service: StoreService) -> None:
    assert new_orders("diff", "now", "now").stdout.splitlines()[-1] == "both share the first 10 events"
    service.restore_moment(Moment(sequence=7))
    generation = service.timeline()["generations"][0]["id"]
    new_orders("post", "-", input=ndjson({**orders_of(8)[-1], "data": 1}, {"type": "new", "id": "n"}))
    shown = new_orders("diff", f"{generation}@", "now", "--utc").stdout.splitlines()
    assert [line[0] for line in shown[:4]] == ["<", ">", "-", "-"] or sorted(line[0] for line in shown[:5]) == sorted(
        "<>--+"
    )
    assert shown[-1] == "both share the first 7 events"
    summary = new_orders("diff", f"{generation}@", "now", "--summary")
    assert [line.split() for line in summary.stdout.splitlines()[:3]] == [
        ["only", "in", f"{generation}@", "2", "1", "order.created,", "1", "order.paid"],
        ["only", "in", "now", "1", "1", "new"],
        ["different", "1", "1", "order.paid"],
    ]
    assert answer(new_orders("diff", f"{generation}@", "now", "--summary", "--json"))["onlyInFrom"] == 2
    lines = [json.loads(line) for line in new_orders("diff", f"{generation}@", "now", "--json").stdout.splitlines()]
    assert sorted(line["in"] for line in lines) == ["both", "from", "from", "summary", "to"]
    assert lines[-1]["in"] == "summary"
    assert new_orders("diff", "now", "now", "--exit-code").exit_code == 0
    assert new_orders("diff", f"{generation}@", "now", "--exit-code").exit_code == 1


@pytest.mark.slow
def test_backup_diff_is_the_same_and_takes_names_of_backups(
    new_orders: Events, service: StoreService, settings: Settings
) -> None:
    name = service.create_backup().backup.name
    new_orders("post", "later")
    done = in_process(settings, service)("backup", "diff", name, "now", "--summary")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split() == ["only", "in", "now", "1", "1", "later"]


@pytest.mark.slow
def test_hostile_text_cannot_control_a_terminal(
    events: Events, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = "\u202etxt.exe [red]x[/red]"
    Path("a").write_bytes(ndjson({"type": "a\u2066b", "id": "\u200fx", "subject": subject, "data": HOSTILE}))
    monkeypatch.setattr("app.cli.events.lines._is_terminal", lambda: True)
    assert events("import", "a").exit_code == 0
    assert events("import", "a", "--name", "\u202e").exit_code == 2
    commands = [
        ("tail",), ("tail", "--json"), ("count", "--by", "type"), ("count", "--by", "subject"), ("get", "\u200fx"),
        ("get", "\u200fx", "--json"), ("export",), ("diff", "#0", "now"), ("diff", "#0", "now", "--json"),
        ("import", "a", "--dry-run"), ("diff", "#0", "now", "--summary"),
    ]  # fmt: skip
    for command in commands:
        done = events(*command)
        assert done.exit_code == 0, done.output
        shown = done.stdout + done.stderr
        assert not [each for each in shown if each in "\x1b\x07\x9b\u202e\u2066\u200f"], command
    assert orjson.loads(events("get", "\u200fx").stdout)["data"] == HOSTILE
    monkeypatch.setattr("app.cli.events.lines._is_terminal", lambda: False)
    assert events("get", "\u200fx").stdout_bytes == service.get("\u200fx") + b"\n"


@pytest.mark.slow
def test_rejects_with_hostile_text_are_harmless_on_a_terminal(events: Events) -> None:
    Path("a").write_bytes(ndjson({"type": "a", f"{HOSTILE}": 1}))
    done = events("import", "a")
    assert done.exit_code == 8
    assert not [each for each in done.output if each in "\x1b\x07\x9b\u202e\u2066"]


@pytest.mark.parametrize("command", ["import", "export", "tail", "count", "get", "post", "diff"])
def test_help_starts_no_store_and_makes_no_folder(
    command: str, settings_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in settings_environment.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(root(), ["events", command, "--help"])
    assert done.exit_code == 0
    assert f"events {command}" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
