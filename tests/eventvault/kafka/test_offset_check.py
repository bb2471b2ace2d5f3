"""The check that stored offsets still belong to the present topic."""

from msgspec.structs import replace

from eventvault.kafka.offset_check import cause_of, check_offset, diverged, out_of_range
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.topic_info import TopicInfo

STORED = StoredOffset(next=10, crc=1, leader_epoch=2, topic_id="T", cluster_id="C")
TOPIC = TopicInfo("C", "T", 1)


def test_an_offset_within_the_same_topic_is_continued_from() -> None:
    for low, high in ((0, 10), (10, 10), (3, 99)):
        assert check_offset("events", 0, STORED, TOPIC, low, high) is None


def test_an_offset_that_means_something_else_is_not() -> None:
    def code(topic_info: TopicInfo, low: int, high: int) -> str:
        problem = check_offset("events", 0, STORED, topic_info, low, high)
        return "" if problem is None else problem.code

    assert code(TopicInfo("C", "U", 1), 0, 10) == "kafka_topic_recreated"
    assert code(TopicInfo("D", None, 1), 0, 10) == "kafka_cluster_changed"
    assert code(TopicInfo("D", "U", 1), 0, 10) == "kafka_cluster_changed"
    assert code(TopicInfo("D", "T", 1), 0, 10) == ""
    assert code(TopicInfo(None, None, 1), 0, 10) == ""
    assert code(TOPIC, 0, 9) == "kafka_topic_truncated"
    assert code(TOPIC, 11, 20) == "kafka_messages_gone"


def test_a_problem_has_where_the_partition_begins_now_and_how_many_messages_are_lost() -> None:
    gone = check_offset("events", 0, STORED, TOPIC, 15, 20)
    other = check_offset("events", 0, STORED, TopicInfo("C", "U", 1), 3, 20)
    assert gone is not None
    assert other is not None
    assert (gone.details, other.details) == ({"begins": 15, "next": 10, "lost": 5}, {"begins": 3})
    assert gone.message.endswith("5 messages from 10 on were removed before they were consumed")
    one = check_offset("events", 0, STORED, TOPIC, 11, 20)
    assert one is not None
    assert one.message.endswith("1 message from 10 on was removed before it was consumed")


def test_an_accepted_loss_is_the_same_while_more_messages_go_or_come() -> None:
    def cause(low: int, high: int, following: int = 10) -> str:
        problem = check_offset("events", 0, replace(STORED, next=following), TOPIC, low, high)
        assert problem is not None
        return cause_of(problem)

    assert cause(15, 20) == cause(17, 30) == cause_of(out_of_range("events", 0, 10, "Offset out of range"))
    assert cause(0, 7) == cause(0, 9)
    assert len({cause(15, 20), cause(15, 20, following=11), cause(0, 7), cause(0, 7, following=11)}) == 4


def test_what_is_another_topic_is_accepted_by_its_words() -> None:
    causes = set()
    for topic_info in (TopicInfo("C", "U", 1), TopicInfo("D", None, 1), TopicInfo("E", None, 1)):
        problem = check_offset("events", 0, STORED, topic_info, 0, 10)
        assert problem is not None
        causes.add(cause_of(problem))
    assert len({*causes, cause_of(diverged("events", 0, 9)), cause_of(diverged("events", 0, 10))}) == 5
