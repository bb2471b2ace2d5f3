"""The setting of the events topics, and which topics never are one."""

import pytest

from eventvault.kafka import config
from eventvault.topic_names import EventsTopics, dead_letter_topic, other_uses, why_no_events

SETTINGS = {"kafka_jobs_topic": "jobs", "kafka_results_topic": "job-results", "kafka_publish_topic": "out"}
OTHERS = (
    "jobs", "jobs.work", "jobs.reports", "jobs.dead-letter", "job-results", "out", "events.dead-letter",
    "__consumer_offsets", "__transaction_state",
)  # fmt: skip


def test_a_dead_letter_topic_has_a_name_that_kafka_accepts() -> None:
    assert dead_letter_topic("events") == "events.dead-letter"
    assert len(dead_letter_topic("e" * 249)) == 249


def test_a_dead_letter_fits_where_its_message_did() -> None:
    assert config.LARGEST_MESSAGE_BYTES >= 100 * 2**20


@pytest.mark.parametrize(
    ("text", "names"),
    [("events", ("events",)), ("b, a.x_y-z ,b", ("b", "a.x_y-z")), ("^shop-", ()), ("^shop-(a|b){1,3}$", ())],
)
def test_events_topics_are_a_list_or_a_pattern(text: str, names: tuple[str, ...]) -> None:
    found = EventsTopics(text)
    assert (found.names, str(found)) == (names, text)
    assert (found.pattern is None) == bool(names)


@pytest.mark.parametrize("text", ["", ",", "a,", "a,,b", "a,^b", "two words", "..", "e" * 250, "^(", "^a{99999999999}"])
def test_what_names_no_topic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        EventsTopics(text)


def test_a_pattern_matches_the_beginning_of_names_and_never_a_topic_with_another_use() -> None:
    uses = other_uses(SETTINGS)
    names = ["shop-b", "shop-a", "shop", "workshop-a", *OTHERS]
    assert EventsTopics("^shop-").matching(names, uses) == ["shop-a", "shop-b"]
    assert EventsTopics("^shop$").matching(names, uses) == ["shop"]
    assert EventsTopics("^.*").matching(names, uses) == ["shop", "shop-a", "shop-b", "workshop-a"]
    assert EventsTopics("shop").matching(names, uses) == []


@pytest.mark.parametrize("name", OTHERS)
def test_each_topic_with_another_use_is_said_to_have_it(name: str) -> None:
    reason = why_no_events(name, other_uses(SETTINGS))
    assert reason is not None
    assert reason.startswith(f"{name} is ")


def test_other_topics_may_be_events_topics() -> None:
    uses = other_uses({"kafka_jobs_topic": "work"})
    for name in ("jobs", "jobs.work", "out", "events", "_private", "x.dead-letters", "events__"):
        assert why_no_events(name, uses) is None
