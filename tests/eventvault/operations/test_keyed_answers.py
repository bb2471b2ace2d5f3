from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from eventvault.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from eventvault.keyed_request import KEEP_MICROSECONDS
from eventvault.operations.keyed_answers import KeyedAnswer, KeyedAnswers

KEY, OTHER = b"0123456789abcdef", b"1123456789abcdef"


class Clock:
    def __init__(self) -> None:
        self.now = time.time_ns() // 1000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers(tmp_path: Path, clock: Clock) -> KeyedAnswers:
    return KeyedAnswers(tmp_path, clock)


def answer(answers: KeyedAnswers, key: bytes = KEY, content: str = "content", body: str = "{}") -> KeyedAnswer:
    """Carry a request out."""
    claim = answers.claim(key)
    begun = claim.begin(content)
    claim.end(msgspec.structs.replace(begun, status=200, body=body))
    claim.release()
    return begun


def begin(answers: KeyedAnswers, key: bytes = KEY, content: str = "content") -> KeyedAnswer:
    claim = answers.claim(key)
    try:
        return claim.begin(content)
    finally:
        claim.release()


def test_a_repeated_request_gets_the_first_answer(answers: KeyedAnswers) -> None:
    first = answer(answers, body='{"ä": "\\u0000\n"}')

    again = begin(answers)

    assert (again.operation, again.status, again.body) == (first.operation, 200, '{"ä": "\\u0000\n"}')
    assert begin(answers, OTHER).status == 0


def test_another_content_is_refused_also_before_there_is_an_answer(answers: KeyedAnswers) -> None:
    begin(answers)

    with pytest.raises(IdempotencyKeyReused):
        begin(answers, content="other")


def test_a_key_that_is_claimed_is_in_use_until_it_is_released(answers: KeyedAnswers, tmp_path: Path) -> None:
    claim = answers.claim(KEY)
    with pytest.raises(IdempotencyKeyInUse):
        answers.claim(KEY)
    with pytest.raises(IdempotencyKeyInUse):
        KeyedAnswers(tmp_path).claim(KEY)
    answers.claim(OTHER).release()

    claim.release()
    claim.release()

    answers.claim(KEY).release()


@pytest.mark.slow
def test_the_claim_of_a_process_that_was_killed_is_free_and_its_request_keeps_its_operation(
    answers: KeyedAnswers, tmp_path: Path
) -> None:
    code = f"""
import sys, time
from pathlib import Path
from eventvault.operations.keyed_answers import KeyedAnswers
print(KeyedAnswers(Path({str(tmp_path)!r})).claim({KEY!r}).begin("content").operation, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        operation = other.stdout.readline().strip()
        with pytest.raises(IdempotencyKeyInUse):
            answers.claim(KEY)
        other.kill()
        other.wait(60)

    assert begin(answers).operation == operation


def test_a_key_that_was_forgotten_is_new(answers: KeyedAnswers) -> None:
    claim = answers.claim(KEY)
    first = claim.begin("content")
    claim.forget()
    claim.release()

    assert begin(answers, content="other").operation != first.operation


def test_a_key_counts_for_a_day_and_its_file_goes_with_a_later_one(
    tmp_path: Path, answers: KeyedAnswers, clock: Clock
) -> None:
    first = answer(answers)
    clock.now += KEEP_MICROSECONDS - 1
    assert begin(answers).status == 200

    clock.now += 1
    assert begin(answers, content="other").operation != first.operation

    path = tmp_path / "operations" / f"{KEY.hex()}.key"
    os.utime(path, ns=((clock.now - KEEP_MICROSECONDS) * 1000,) * 2)
    begin(KeyedAnswers(tmp_path, clock), OTHER)
    assert [file.name for file in path.parent.glob("*.key")] == [f"{OTHER.hex()}.key"]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 100])
def test_a_damaged_file_counts_as_no_answer_and_is_quarantined(
    tmp_path: Path, answers: KeyedAnswers, damage: bytes
) -> None:
    first = answer(answers)
    path = tmp_path / "operations" / f"{KEY.hex()}.key"
    path.write_bytes(damage)

    assert begin(answers).operation != first.operation
    assert [file.read_bytes() for file in path.parent.glob("*.damaged")] == [damage]
