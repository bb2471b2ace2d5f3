"""How the API and the command line describe the quarantine."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from eventvault import clock
from eventvault.kafka.values import Quarantined, QuarantinedMessage, QuarantinePage, Replayed


def page_json(page: QuarantinePage) -> dict[str, Any]:
    contents = page.held
    return {
        "success": True,
        "quarantine": [entry_json(entry) for entry in page.messages],
        "next": page.next,
        "count": contents.count,
        "bytes": contents.bytes,
        "oldest": clock.optional_milliseconds(contents.oldest),
        "dropped": contents.totals.dropped,
    }


def entry_json(entry: Quarantined) -> dict[str, Any]:
    facts = entry.facts
    return {
        "id": entry.id,
        "topic": entry.topic,
        "partition": entry.partition,
        "offset": entry.offset,
        "at": clock.format_milliseconds(entry.at),
        "timestamp": _timestamp(facts.timestamp),
        "reason": facts.reason,
        "size": facts.size,
        "reference": None if facts.reference is None else msgspec.to_builtins(facts.reference),
    }


def message_json(message: QuarantinedMessage) -> dict[str, Any]:
    content = message.content
    return {
        **entry_json(message.entry),
        "key": bytes_json(content.key),
        "value": bytes_json(content.value),
        "headers": [{"name": name, "value": bytes_json(value)} for name, value in content.headers],
    }


def bytes_json(content: bytes | None) -> dict[str, Any] | None:
    """Return bytes as base64, and as text if they are UTF-8."""
    if content is None:
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = None
    return {"base64": base64.b64encode(content).decode(), "text": text}


def replayed_json(results: Sequence[Replayed]) -> dict[str, Any]:
    outcomes = [result.outcome for result in results]
    return {
        "success": True,
        "replayed": outcomes.count("replayed"),
        "duplicates": outcomes.count("duplicate"),
        "refused": outcomes.count("refused"),
        "results": [
            {
                "id": result.id,
                "outcome": result.outcome,
                "eventId": result.event_id,
                "source": result.source,
                "sequence": result.sequence,
                "reason": result.reason,
            }
            for result in results
        ],
    }


def _timestamp(milliseconds: int | None) -> str | None:
    """Return Kafka's timestamp of a message as text; None if it has none, or an impossible one."""
    if milliseconds is None or not 0 <= milliseconds < clock.YEAR_10000 // 1000:
        return None
    return clock.format_milliseconds(milliseconds * 1000)
