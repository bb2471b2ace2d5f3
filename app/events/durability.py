"""When a post is answered: once its events are on disk, or with `durability=kafka` once Kafka has them too."""

from __future__ import annotations

from typing import Protocol

import msgspec
from flask import Request, Response

from app.edge import current_edge
from app.events.answers import AppendedEvents
from app.replies import JSON
from app.streams.published import answer_when_published
from eventvault.database.values import Head, Published
from eventvault.errors import InvalidInput, TooBusy

PARAMETER = "durability"


class Durability(Protocol):
    def reply(self, answer: AppendedEvents) -> Response:
        """Return the answer to appended events, which are on disk."""


class OnDisk:
    def reply(self, answer: AppendedEvents) -> Response:
        return Response(answer.encoded(), _status(answer), content_type=JSON)


class InKafka:
    """Answers once Kafka has the events. generation: the current one before anything was appended."""

    def __init__(self, generation: str) -> None:
        self._generation = generation

    def reply(self, answer: AppendedEvents) -> Response:
        """Answer once Kafka has the events or has refused one, or after a while that this is pending."""
        sequences = {result.sequence for result in answer.results}
        edge = current_edge()

        def finish(published: Published | None) -> tuple[int, bytes]:
            if published is None:
                return 202, msgspec.structs.replace(answer, kafka="pending").encoded()
            word = "published" if sequences.isdisjoint(published.refused) else "refused"
            return _status(answer), msgspec.structs.replace(answer, kafka=word).encoded()

        try:
            release = edge.broker_waits.take()
        except TooBusy:
            status, body = finish(None)
            return Response(body, status, content_type=JSON)
        wanted = Head(self._generation, max(sequences, default=0))
        return answer_when_published(edge.store, edge.published_feed, wanted, finish, release)


def durability_of(posted: Request) -> Durability:
    """Return the durability that the client asks for. Raises InvalidInput for an unknown one, or without publishing."""
    word = posted.args.get(PARAMETER) if posted.query_string else None
    if word is None:
        return OnDisk()
    if word != "kafka":
        raise InvalidInput(
            f"there is no durability {word[:80]!r}",
            hint="leave it out: an answer means that the events are on disk; or send durability=kafka",
            fields={PARAMETER: ["Must be kafka."]},
        )
    edge = current_edge()
    if edge.settings.kafka_publish_topic is None:
        raise InvalidInput(
            "nothing is published to Kafka here, so nothing can wait for it",
            hint="set KAFKA_PUBLISH_TOPIC and restart the service, or send the events without durability=kafka",
            fields={PARAMETER: ["KAFKA_PUBLISH_TOPIC is not set."]},
        )
    return InKafka(edge.store.wait_for_published(None, 0.0).generation)


def _status(answer: AppendedEvents) -> int:
    return 201 if answer.duplicates < len(answer.results) else 200
