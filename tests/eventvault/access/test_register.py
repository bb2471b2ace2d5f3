"""What a worker knows of the tokens: it looks again by itself, and a disk that does not answer holds nothing up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from eventvault import data_folders, token_text
from eventvault.access import register as module
from eventvault.access.changes import TokenChanges
from eventvault.access.register import Checks, TokenRegister
from eventvault.access.uses import TokenUses
from eventvault.errors import TokenWrong
from eventvault.settings import Settings, load
from tests import processes


@pytest.fixture
def settings(settings_environment: dict[str, str]) -> Settings:
    return load(settings_environment)


def is_valid(register: TokenRegister, text: str) -> bool:
    try:
        register.credential_of(text)
    except TokenWrong:
        return False
    return True


def test_without_tokens_the_service_is_open(settings: Settings) -> None:
    assert not TokenRegister(settings).current().closed


@pytest.mark.slow
def test_a_new_token_and_a_revocation_hold_within_a_second(settings: Settings) -> None:
    assert module.CHECK_SECONDS < 1
    register, changes = TokenRegister(settings), TokenChanges(settings)
    assert not register.current().closed
    made = changes.create("cron", "read", by="shell")
    processes.wait_until(lambda: is_valid(register, made.text), "the token is not valid")
    assert register.current().closed
    changes.revoke(made.token.id, by="shell")
    processes.wait_until(lambda: not is_valid(register, made.text), "the token is valid still")
    assert register.current().closed


@pytest.mark.slow
def test_an_idle_worker_serves_no_revoked_token_at_its_next_request(settings: Settings) -> None:
    changes = TokenChanges(settings)
    made = changes.create("cron", "read", by="shell")
    register = TokenRegister(settings)
    assert is_valid(register, made.text)
    changes.revoke(made.token.id, by="shell")
    register.check_again()
    assert not is_valid(register, made.text)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: "", "malformed"),
        (lambda text: "Bearer", "malformed"),
        (lambda text: text[:-1], "malformed"),
        (lambda text: text + "x", "malformed"),
        (lambda text: "x" * 1000, "longer than any token"),
        (lambda text: text[:20] + ("a" if text[20] != "a" else "b") + text[21:], "typing error"),
        (lambda text: token_text.new_token(), "is not known here"),
    ],
)
def test_a_wrong_token_is_refused_with_the_reason(settings: Settings, change, why: str) -> None:  # type: ignore[no-untyped-def]
    made = TokenChanges(settings).create("cron", "read", by="shell")
    with pytest.raises(TokenWrong, match=why) as raised:
        TokenRegister(settings).credential_of(change(made.text))
    assert made.text not in raised.value.message + raised.value.hint


@pytest.mark.slow
def test_files_that_vanish_under_a_running_service_do_not_open_it(settings: Settings) -> None:
    changes, register = TokenChanges(settings), TokenRegister(settings)
    made = changes.create("cron", "read", by="shell")
    assert is_valid(register, made.text)
    for folder in (settings.storage_dir, settings.backup_dir):
        (folder / data_folders.TOKENS).unlink()
    (settings.storage_dir / data_folders.TOKENS_MARK).unlink()
    register._backups_checks.expire()
    register.current()
    processes.wait_until(lambda: register._in_backups.content is None, "the copy is still known")
    register.check_again()
    assert register.current().closed


@pytest.mark.slow
def test_the_copy_that_lacks_something_is_written_by_a_worker(settings: Settings) -> None:
    made = TokenChanges(settings).create("cron", "read", by="shell")
    copy = settings.backup_dir / data_folders.TOKENS
    copy.unlink()
    register = TokenRegister(settings)
    assert is_valid(register, made.text)
    register._backups_checks.expire()
    register.current()
    processes.wait_until(copy.exists, "the copy was not written")


def test_the_file_of_api_tokens_is_read_again_when_it_changes(
    settings_environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "secrets" / "tokens"
    settings = load({**settings_environment, "API_TOKENS_FILE": str(path)})
    register, text = TokenRegister(settings), token_text.new_token()
    assert register.current().closed, "a file that is missing closes the service"
    path.parent.mkdir()
    real = tmp_path / "elsewhere"
    real.write_text(f"# made by hand\nci:read:sha256={token_text.digest_of(text).hex()}\n")
    path.symlink_to(real)
    register.check_again()
    assert is_valid(register, text)
    real.write_text("nonsense\n")
    register.check_again()
    assert is_valid(register, text), "what the file had before counts"
    assert "entry 1 of API_TOKENS_FILE" in register.current().file_problem
    real.write_text("")
    register.check_again()
    assert not is_valid(register, text)
    assert register.current().closed


@pytest.mark.slow
def test_a_look_that_hangs_holds_requests_up_once_and_not_for_long() -> None:
    hangs, looked = threading.Event(), []
    begun = threading.Event()

    def look() -> None:
        looked.append(1)
        begun.set()
        hangs.wait(30)

    looks = Checks(look, every=0.0, patience=0.05)
    looks.refresh()
    assert begun.wait(30)
    for _ in range(20):
        looks.refresh()
    assert len(looked) == 1, "a second thread began to look while the first one hangs"
    hangs.set()


def test_a_look_that_began_before_a_change_does_not_count_after_it() -> None:
    goes_on, began, looked = threading.Event(), threading.Event(), list[int]()

    def look() -> None:
        looked.append(1)
        began.set()
        assert goes_on.wait(30)

    looks = Checks(look, every=60.0, patience=0.01)
    looks.refresh()
    assert began.wait(30)
    looks.expire()
    goes_on.set()
    processes.wait_until(lambda: looks._running is None, "the look did not end")
    looks.refresh()
    processes.wait_until(lambda: looks.counts_until > 0, "it did not look again")
    assert len(looked) == 2


def test_a_look_that_fails_leaves_what_was_known(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = TokenChanges(settings).create("cron", "read", by="shell")
    register = TokenRegister(settings)
    assert is_valid(register, made.text)

    def fail() -> object:
        raise MemoryError

    monkeypatch.setattr(register._files, "identity", fail)
    register.check_again()
    assert is_valid(register, made.text)


def test_the_last_use_of_a_token_is_noted(settings: Settings) -> None:
    changes, uses = TokenChanges(settings), TokenUses(settings.storage_dir)
    made = changes.create("cron", "read", by="shell")
    assert changes.list_tokens()[0]["lastUsed"] is None
    uses.note(made.token.id)
    processes.wait_until(lambda: changes.list_tokens()[0]["lastUsed"] is not None, "the use is not noted")


@pytest.mark.slow
def test_a_token_that_another_process_made_just_now_counts_at_once(settings: Settings) -> None:
    register = TokenRegister(settings)
    TokenChanges(settings).create("first", "read", by="shell")
    with pytest.raises(TokenWrong):
        register.credential_of("unknown")
    register._next_check_for_new = 0.0
    made = TokenChanges(settings).create("second", "read", by="shell")
    assert register.credential_of(made.text).name == "second"
    register._next_check_for_new = 0.0
    third = TokenChanges(settings).create("third", "read", by="shell")
    assert register.credential_of_id(third.token.id) is not None


def test_wrong_tokens_make_it_look_a_hundred_times_a_second_at_most(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = TokenRegister(settings)
    looks = []
    monkeypatch.setattr(register, "check_again", lambda: looks.append(1))
    monkeypatch.setattr(module, "NEW_SECONDS", 1000.0)
    for _ in range(1000):
        with pytest.raises(TokenWrong):
            register.credential_of("unknown")
    assert len(looks) == 1
