"""The names of Kafka's topics: which are events topics by the setting, and which never are one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

DEAD_LETTER = ".dead-letter"
WORK = ".work"
REPORTS = ".reports"
LONGEST_NAME = 249
"""Characters in a topic's name, by Kafka's own rule."""

_KAFKAS_OWN = "__"
_USES = {
    "kafka_jobs_topic": "jobs",
    "kafka_results_topic": "the outcomes of jobs",
    "kafka_publish_topic": "the events that are published",
}
"""Setting → what is in its topic. Such a topic is never an events topic."""


def topic_name(text: str) -> str:
    """Return the name of a topic. Raises ValueError for another text."""
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", text) or text in (".", ".."):
        raise ValueError(text)
    return text


def dead_letter_topic(topic: str) -> str:
    return topic_beside(topic, DEAD_LETTER)


def topic_beside(topic: str, suffix: str) -> str:
    """Return `<topic><suffix>`; a name that would be too long for Kafka is cut in front of the suffix."""
    return topic[: LONGEST_NAME - len(suffix)] + suffix


@dataclass(frozen=True)
class EventsTopics:
    """The topics that events are consumed from. Raises ValueError for a text that names none.

    text: names with commas between them, or a regular expression that begins with `^`. names: in the order of the text;
    empty with a pattern. A pattern matches a name from its beginning, as librdkafka's do: `$` ends it.
    """

    text: str
    names: tuple[str, ...] = field(init=False, compare=False)
    pattern: re.Pattern[str] | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        names: tuple[str, ...] = ()
        pattern = None
        if self.text.startswith("^"):
            pattern = _compiled(self.text)
        else:
            names = tuple(dict.fromkeys(topic_name(name.strip()) for name in self.text.split(",")))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "pattern", pattern)

    def __str__(self) -> str:
        return self.text

    def matching(self, names: Iterable[str], uses: Mapping[str, str]) -> list[str]:
        """Return those of `names` that the pattern matches, in order. uses: as `other_uses` has them."""
        if self.pattern is None:
            return []
        return sorted(name for name in names if self.pattern.match(name) and why_no_events(name, uses) is None)


def other_uses(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the topics with another use and what is in them: topic → words. settings: values by attribute.

    No other place knows which topics are never events topics, except those whose names show it: see `why_no_events`.
    """
    named = {attribute: settings.get(attribute) for attribute in _USES}
    uses = {name: f"{_USES[attribute]} ({attribute.upper()})" for attribute, name in named.items() if name}
    jobs = named["kafka_jobs_topic"]
    beside = {topic_beside(jobs, suffix): "jobs that workers run" for suffix in (WORK, REPORTS)} if jobs else {}
    return {**beside, **uses}


def why_no_events(topic: str, uses: Mapping[str, str]) -> str | None:
    """Return why a topic is never an events topic; None if it may be one. uses: as `other_uses` has them."""
    if topic in uses:
        return f"{topic} is the topic of {uses[topic]}"
    if topic.endswith(DEAD_LETTER):
        return f"{topic} is a topic of dead letters, by its name"
    return f"{topic} is one of Kafka's own topics, by its name" if topic.startswith(_KAFKAS_OWN) else None


def _compiled(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(text) from error
