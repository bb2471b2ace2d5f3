"""`flask kafka`: shows how far topics were consumed and events published, and accepts the loss of messages."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import click

from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.group import Group
from app.cli.options import ask_for, json_option, require_answer, utc_option, yes_option
from app.cli.program import in_words_of_program
from app.cli.quarantine import group as quarantine
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.errors import InvalidInput, KafkaNotConfigured, PartitionNotStopped, StoreUnavailable
from eventvault.exit_statuses import TRY_AGAIN
from eventvault.kafka.topic_info import PartitionPlace
from eventvault.problems import CONSEQUENCES

group = Group("kafka", help="Lag, stopped partitions, quarantine.")
group.add_command(quarantine)

CONTINUE_SECONDS = 20.0
"""Seconds that `accept` waits for the partition to go on. If no broker answers, it goes on later without `accept`."""
_POLL_SECONDS = 0.2
_SHORT_BACKLOG_SECONDS = 2.0
"""The time left is not shown for a backlog that ends sooner."""
_PUBLISH_PROBLEMS = ("kafka_publish_late", "kafka_publish_topic_missing")
_PARTITION = re.compile(r"([a-zA-Z0-9._-]{1,249})/([0-9]{1,10})")

Problem = Mapping[str, Any]


@group.command("status")
@json_option
def status(*, as_json: bool) -> None:
    """What is consumed and published, and how far. Exit: 6 if no broker answers, or if no service runs."""
    with exits.reporting_errors(as_json=as_json):
        kafka, problems = _state()
        if not kafka["consumes"]:
            raise _no_service()
    exits.print_result(
        {"kafka": kafka}, lambda _: in_words_of_program(_describe_state(kafka, problems)), as_json=as_json
    )
    if not kafka["connected"]:
        raise SystemExit(TRY_AGAIN)


@group.command("accept")
@click.argument("partition", metavar="TOPIC/N")
@yes_option
@utc_option
@json_option
def accept(*, partition: str, yes: bool, utc: bool, as_json: bool) -> None:
    """Let a stopped partition go on without the messages that are lost. Exit: 4 if it is not stopped."""
    with exits.reporting_errors(as_json=as_json):
        kafka, problems = _state()
        place = _place_of(partition, kafka)
        problem = _stops(problems).get(place)
        if problem is None:
            raise PartitionNotStopped(
                f"{partition} is not stopped; nothing was changed", hint="flask kafka status shows the stopped ones"
            )
    require_answer(yes=yes, as_json=as_json)
    if not yes:
        click.echo(text.safe(_describe_loss(partition, kafka, problem, text.Times(utc=utc))), err=True)
        ask_for(partition, partition, lead="")
    name = partition if len(kafka["topics"]) > 1 else str(place[1])
    exits.run_and_print(lambda: _accept(place, problem), lambda done: _describe_accepted(name, done), as_json=as_json)


def _accept(place: PartitionPlace, problem: Problem) -> dict[str, Any]:
    topic, number = place
    retry_while_store_is_away(lambda: current_store().accept_loss(number, topic))
    deadline = time.monotonic() + CONTINUE_SECONDS
    while (is_stopped := _is_stopped(_state()[0], place)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    begins = (problem.get("details") or {}).get("begins")
    return {"topic": topic, "partition": number, "continues": not is_stopped, "offset": begins}


def _is_stopped(kafka: Mapping[str, Any], place: PartitionPlace) -> bool:
    return any(_place(partition) == place and partition["state"] == "stopped" for partition in kafka["partitions"])


def _place(partition: Mapping[str, Any]) -> PartitionPlace:
    """Return the place of a partition as health describes it."""
    return partition["topic"], partition["partition"]


def _state() -> tuple[dict[str, Any], list[Problem]]:
    """Return the part of health that is about Kafka, and the problems. Raises KafkaNotConfigured."""
    health = retry_while_store_is_away(current_store().status)
    if not health["kafka"]["configured"]:
        raise KafkaNotConfigured("Kafka is not configured", hint="set KAFKA_BOOTSTRAP_SERVERS, and restart the service")
    return health["kafka"], health["problems"]


def _no_service() -> StoreUnavailable:
    return StoreUnavailable("no service runs, so no events are consumed from Kafka", hint="start the service")


def _place_of(name: str, kafka: Mapping[str, Any]) -> PartitionPlace:
    """Return the place of a partition by its name. Raises InvalidInput if it belongs to no events topic."""
    match = _PARTITION.fullmatch(name)
    topics = [topic["name"] for topic in kafka["topics"]]
    if match is None or match[1] not in topics:
        known = f"the topic {topics[0]}" if len(topics) == 1 else f"the {len(topics)} events topics"
        hint = f"name it as `flask kafka status` does, such as {topics[0] if topics else 'events'}/0"
        raise InvalidInput(f"{name} is not a partition of {known}; nothing was changed", hint=hint)
    return match[1], int(match[2])


def _stops(problems: list[Problem]) -> dict[PartitionPlace, Problem]:
    """Return the problem of each stopped partition."""
    return {
        _place(problem["details"]): problem
        for problem in problems
        if problem["code"].startswith("kafka_") and {"topic", "partition"} <= (problem.get("details") or {}).keys()
    }


def _describe_state(kafka: Mapping[str, Any], problems: list[Problem]) -> str:
    published = _describe_publishing(kafka)
    publish_hints: list[str] = []
    for problem in problems:
        code, message, hint = problem["code"], problem["message"], f"HINT: {problem['hint']}"
        if code == "kafka_refused" and kafka["connected"]:
            published.insert(0, message)
            publish_hints.insert(0, hint)
        elif code == "kafka_refused":
            return "\n".join([f"No topic is read: {message}", *published, hint])
        if code in _PUBLISH_PROBLEMS:
            published.append(message)
            publish_hints.append(hint)
    consumed, hints = _describe(kafka, _stops(problems))
    return "\n".join([*consumed, *published, *hints, *publish_hints])


def _describe_publishing(kafka: Mapping[str, Any]) -> list[str]:
    """Return lines about events that wait to be published or were too large; none without a publish topic."""
    publish = kafka.get("publish")
    if publish is None:
        return []
    match publish["backlog"]:
        case None:
            waiting = "the events that wait are being counted"
        case 0:
            waiting = "no event waits"
        case backlog:
            wait = "waits" if backlog == 1 else "wait"
            waiting = f"{text.counted(backlog, 'event')} {wait}, for up to {text.seconds(publish['secondsWaiting'])}"
    lines = [f"Publishing to {publish['topic']}: {waiting}."]
    if without_data := publish["withoutData"] - publish.get("notPublished", 0):
        lines.append(f"{text.counted(without_data, 'event')} published without data: too large for the topic.")
    if publish.get("notPublished"):
        lines.append(f"{text.counted(publish['notPublished'], 'event')} NOT PUBLISHED: too large even without data.")
    return lines


def _describe(kafka: Mapping[str, Any], stops: Mapping[PartitionPlace, Problem]) -> tuple[list[str], list[str]]:
    """Return the lines about what is consumed, and hints."""
    rows: list[tuple[str, ...]] = []
    nothing = text.sign("–", "-")
    for partition in kafka["partitions"]:
        topic, number = _place(partition)
        name = str(number) if len(kafka["topics"]) == 1 else f"{topic}/{number}"
        lag = nothing if partition["lag"] is None else text.number(partition["lag"])
        state = partition["state"].upper() if partition["state"] == "stopped" else partition["state"]
        next_offset = nothing if partition["next"] is None else text.number(partition["next"])
        last = nothing if partition["lastMessageAt"] is None else text.ago(clock.parse(partition["lastMessageAt"]))
        rows.append((name, state, next_offset, lag, last))
    header = ("PARTITION", "STATE", "NEXT OFFSET", "BEHIND", "LAST MESSAGE")
    lines = text.table(header, rows, right={2, 3}).split("\n") if rows else []
    shown = [_headline(kafka), *lines[:1]]
    places = [_place(partition) for partition in kafka["partitions"]]
    for place, line in zip(places, lines[1:], strict=True):
        problem = stops.get(place)
        shown += [line] if problem is None else [line, f"{' ' * 11}{_reason(problem)}"]
    hints = [f"HINT: go on without them: flask kafka accept {topic}/{n}" for topic, n in places if (topic, n) in stops]
    return [*shown, *_describe_unread(kafka)], hints


def _describe_rate(kafka: Mapping[str, Any]) -> str:
    """Return how fast a backlog is consumed; empty if it is over in a moment, or if an earlier service had it."""
    seconds = kafka.get("remainingSeconds") or 0
    if seconds < _SHORT_BACKLOG_SECONDS:
        return ""
    return f", {text.number(kafka['messagesPerSecond'])} consumed a second: {text.seconds(seconds)} to go"


def _describe_unread(kafka: Mapping[str, Any]) -> list[str]:
    """Return why topics without a stopped partition are not read. The headline names a missing topic."""
    stopped = {partition["topic"] for partition in kafka["partitions"] if partition["state"] == "stopped"}
    reasons = {topic["name"]: topic["error"] for topic in kafka["topics"] if topic["name"] not in stopped}
    if kafka["topic"] is None:
        missing = "it does not exist"
        reasons |= {topic["name"]: missing for topic in kafka["topics"] if not topic["exists"] and not topic["error"]}
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None and kafka["connected"]]


def _headline(kafka: Mapping[str, Any]) -> str:
    if not kafka["connected"]:
        reason = f": {kafka['lastError']['message']}" if kafka["lastError"] is not None else ""
        return f"No broker answers{reason}. It is tried again automatically."
    brokers = ", ".join(broker["address"] for broker in kafka["brokers"])
    partitions = text.counted(len(kafka["partitions"]), "partition")
    there = f"{text.counted(len(kafka['topics']), 'topic').capitalize()}, {partitions}"
    if not kafka["topics"]:
        there = f"No topic matches {kafka['pattern']}"
    elif kafka["topic"] is not None:
        exists = kafka["topicExists"]
        there = f"Topic {kafka['topic']}, {partitions}" if exists else f"The topic {kafka['topic']} is missing"
    lags = [partition["lag"] for partition in kafka["partitions"] if partition["lag"] is not None]
    behind = f", {text.counted(sum(lags), 'message')} behind" if lags else ""
    return f"{brokers} answers. {there}{behind}{_describe_rate(kafka)}."


def _reason(problem: Problem) -> str:
    details = problem["details"]
    if "lost" not in details:
        return str(problem["message"])
    lost = text.counted(details["lost"], "message")
    return f"the topic begins at {details['begins']:,} now: {lost} before it {_are(details['lost'])} gone"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _describe_loss(name: str, kafka: Mapping[str, Any], problem: Problem, times: text.Times) -> str:
    details = problem["details"]
    if "lost" not in details:
        return f"{problem['message']}.\nIf you accept this, {CONSEQUENCES[problem['code']]}."
    first, last, lost = details["begins"] - details["lost"], details["begins"] - 1, details["lost"]
    partition = next(partition for partition in kafka["partitions"] if _place(partition) == _place(details))
    last_message = partition["lastMessageAt"]
    after = (
        f", after {times.second(clock.parse(last_message))} {times.zone}, the last one consumed"
        if last_message is not None
        else ""
    )
    messages = text.counted(lost, "message")
    return f"{messages} of {name} {_are(lost)} lost for good: offsets {first:,} to {last:,}{after}."


def _describe_accepted(name: str, done: dict[str, Any]) -> str:
    where = f" at {done['offset']:,}" if done["offset"] is not None else " at its current beginning"
    if done["continues"]:
        return f"Partition {name} goes on{where}."
    return f"Partition {name} goes on{where}, as soon as a broker answers."
