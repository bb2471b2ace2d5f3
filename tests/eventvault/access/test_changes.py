"""Making, replacing and revoking tokens, on real folders with real keys."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventvault import data_folders, file_locks, token_text
from eventvault.access import token_files
from eventvault.access.changes import ROTATION_MICROSECONDS, TokenChanges
from eventvault.access.register import TokenRegister
from eventvault.access.token_files import TokenFiles
from eventvault.backups.installation_key import ensure_key, renew_key
from eventvault.errors import (
    DiskFailed,
    InvalidInput,
    InvalidSettings,
    NoSpace,
    NothingToRecover,
    TokenExists,
    TokenNotFound,
    TokensTooNew,
    TokenWrong,
    TooBusy,
)
from eventvault.settings import Settings, load

HOUR = 3_600_000_000
NOW = 1_800_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.instant = NOW

    def __call__(self) -> int:
        return self.instant


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def settings(settings_environment: dict[str, str]) -> Settings:
    return load(settings_environment)


@pytest.fixture
def changes(settings: Settings, now: Clock) -> TokenChanges:
    return TokenChanges(settings, now)


def register(settings: Settings, now: Clock) -> TokenRegister:
    """What a worker that starts now would know."""
    return TokenRegister(settings, now)


def is_valid(settings: Settings, now: Clock, text: str) -> bool:
    try:
        register(settings, now).credential_of(text)
    except TokenWrong:
        return False
    return True


def why_wrong(settings: Settings, now: Clock, text: str) -> str:
    with pytest.raises(TokenWrong) as raised:
        register(settings, now).credential_of(text)
    return raised.value.message


def copies(settings: Settings) -> tuple[Path, Path]:
    return settings.storage_dir / data_folders.TOKENS, settings.backup_dir / data_folders.TOKENS


def test_a_token_is_valid_with_its_name_and_scopes(settings: Settings, changes: TokenChanges, now: Clock) -> None:
    assert not changes.is_closed()
    made = changes.create("cron", "backup+read", by="shell")
    credential = register(settings, now).credential_of(made.text)
    assert (credential.name, credential.token_id, credential.scopes) == ("cron", made.token.id, {"backup", "read"})
    assert credential.may("metrics")
    assert not credential.may("write")
    assert changes.is_closed()


def test_no_file_has_a_token_and_both_are_for_this_user_alone(settings_environment: dict[str, str]) -> None:
    settings = load({**settings_environment, "FILE_GROUP_READ": "true"})
    made = TokenChanges(settings).create("cron", "admin", by="shell")
    secret = made.text.rpartition("_")[2]
    for path in (*settings.storage_dir.rglob("*"), *settings.backup_dir.rglob("*")):
        if path.is_file():
            assert secret not in path.read_text(errors="replace")
    for path in copies(settings):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_ends_when_it_says(settings: Settings, changes: TokenChanges, now: Clock) -> None:
    made = changes.create("cron", "read", by="shell", expires="90d")
    now.instant += 90 * 24 * HOUR - 1
    assert is_valid(settings, now, made.text)
    now.instant += 1
    assert why_wrong(settings, now, made.text).startswith(f"the token {made.token.id} expired at ")
    assert changes.list_tokens()[0]["expired"]
    assert changes.is_closed()


@pytest.mark.parametrize(
    ("name", "scope", "expires", "wrong"),
    [
        ("open", "read", None, {"name"}),
        ("a b", "root", None, {"name", "scope"}),
        ("a", "", None, {"scope"}),
        ("a", "read", "90", {"expires"}),
        ("a", "read", "0d", {"expires"}),
        ("a", "read", "-1d", {"expires"}),
        ("a", "read", "2001-01-01T00:00:00Z", {"expires"}),
        ("a", "read", "999999w", {"expires"}),
        ("a", "read", "", {"expires"}),
        ("a", "read", "tomorrow", {"expires"}),
    ],
)
def test_a_token_that_is_not_valid_is_not_made(
    settings: Settings, changes: TokenChanges, name: str, scope: str, expires: str | None, wrong: set[str]
) -> None:
    with pytest.raises(InvalidInput) as raised:
        changes.create(name, scope, by="shell", expires=expires)
    assert set(raised.value.details["fields"]) == wrong
    assert not changes.is_closed()
    assert not any(path.exists() for path in copies(settings))


def test_a_name_is_that_of_one_valid_token(changes: TokenChanges, now: Clock) -> None:
    made = changes.create("cron", "read", by="shell", expires="1h")
    with pytest.raises(TokenExists):
        changes.create("cron", "backup", by="shell")
    now.instant += HOUR
    second = changes.create("cron", "backup", by="shell")
    changes.revoke(second.token.id, by="shell")
    assert changes.create("cron", "read", by="shell").token.id not in (made.token.id, second.token.id)


def test_a_revoked_token_is_named_as_such_and_stays_so(settings: Settings, changes: TokenChanges, now: Clock) -> None:
    made = changes.create("cron", "read", by="shell")
    first = changes.revoke(made.token.id, by="admin")
    assert why_wrong(settings, now, made.text) == f"the token {made.token.id} was revoked"
    now.instant += HOUR
    assert changes.revoke(made.token.id, by="shell") == first
    assert changes.list_tokens() == []
    assert changes.is_closed()


def test_what_is_not_there_cannot_be_revoked_or_replaced(changes: TokenChanges) -> None:
    with pytest.raises(TokenNotFound):
        changes.revoke("4fQ2mZ8k", by="shell")
    with pytest.raises(TokenNotFound):
        changes.rotate("cron", by="shell")
    assert not changes.is_closed()


def test_a_replaced_token_works_for_another_hour(settings: Settings, changes: TokenChanges, now: Clock) -> None:
    old = changes.create("cron", "backup", by="shell", expires="90d")
    now.instant += 24 * HOUR
    new = changes.rotate("cron", by="shell")
    assert new.token.scope == "backup"
    assert new.token.expires == now.instant + 90 * 24 * HOUR
    now.instant += ROTATION_MICROSECONDS - 1
    assert is_valid(settings, now, old.text)
    assert is_valid(settings, now, new.text)
    now.instant += 1
    assert not is_valid(settings, now, old.text)
    assert is_valid(settings, now, new.text)


def test_a_leaked_token_is_replaced_at_once_with_all_of_its_name(
    settings: Settings, changes: TokenChanges, now: Clock
) -> None:
    first = changes.create("cron", "backup", by="shell")
    second = changes.rotate("cron", by="shell")
    third = changes.rotate("cron", by="shell", at_once=True)
    assert why_wrong(settings, now, first.text).endswith("was revoked")
    assert why_wrong(settings, now, second.text).endswith("was revoked")
    assert is_valid(settings, now, third.text)
    assert [token["id"] for token in changes.list_tokens()] == [third.token.id]


def test_disabling_revokes_all_and_opens(settings: Settings, changes: TokenChanges, now: Clock) -> None:
    made = changes.create("cron", "read", by="shell")
    assert [each.id for each in changes.disable(by="shell").tokens] == [made.token.id]
    assert not changes.is_closed()
    assert not is_valid(settings, now, made.text)
    again = changes.create("cron", "read", by="shell")
    assert changes.is_closed()
    assert not is_valid(settings, now, made.text)
    assert is_valid(settings, now, again.text)


def test_tokens_of_the_settings_cannot_be_disabled_and_can_be_revoked(
    settings_environment: dict[str, str], now: Clock
) -> None:
    text = "of any form"
    setting = f"ci:read:sha256={token_text.digest_of(text).hex()}"
    settings = load({**settings_environment, "API_TOKENS": setting})
    changes = TokenChanges(settings, now)
    assert changes.is_closed()
    assert is_valid(settings, now, text)
    with pytest.raises(InvalidSettings):
        changes.disable(by="shell")
    with pytest.raises(InvalidInput, match="comes from API_TOKENS"):
        changes.rotate("ci", by="shell")
    (row,) = changes.list_tokens()
    assert (row["name"], row["from"]) == ("ci", "API_TOKENS")
    changes.revoke(row["id"], by="shell")
    assert why_wrong(settings, now, text) == f"the token {row['id']} was revoked"
    assert changes.list_tokens() == []


@pytest.fixture
def two_tokens(changes: TokenChanges) -> tuple[str, str]:
    """A revoked and a valid one."""
    first = changes.create("first", "read", by="shell")
    second = changes.create("second", "admin", by="shell")
    changes.revoke(first.token.id, by="shell")
    return first.text, second.text


def test_a_lost_storage_dir_loses_no_token_and_revives_none(
    settings: Settings, now: Clock, two_tokens: tuple[str, str]
) -> None:
    shutil.rmtree(settings.storage_dir)
    assert not is_valid(settings, now, two_tokens[0])
    assert is_valid(settings, now, two_tokens[1])
    assert TokenChanges(settings, now).is_closed()


@pytest.mark.parametrize("folder", ["storage_dir", "backup_dir"])
def test_an_old_copy_put_back_revives_no_token(
    settings: Settings, changes: TokenChanges, now: Clock, folder: str, tmp_path: Path
) -> None:
    made = changes.create("cron", "read", by="shell")
    path = getattr(settings, folder)
    shutil.copytree(path, tmp_path / "old")
    changes.revoke(made.token.id, by="shell")
    later = changes.create("later", "read", by="shell")
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "old", path)
    assert not is_valid(settings, now, made.text)
    assert is_valid(settings, now, later.text)
    TokenFiles(settings).settle()
    shutil.rmtree(settings.backup_dir if folder == "storage_dir" else settings.storage_dir)
    assert not is_valid(settings, now, made.text), "the old copy was not brought up to date"
    assert is_valid(settings, now, later.text)


@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_copy_changes_nothing_and_is_written_anew(
    settings: Settings, now: Clock, two_tokens: tuple[str, str], place: int
) -> None:
    path = copies(settings)[place]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"second", b"sexond"))
    assert is_valid(settings, now, two_tokens[1])
    assert not is_valid(settings, now, two_tokens[0])
    TokenFiles(settings).settle()
    assert path.read_bytes() == whole
    assert path.with_name(f"{path.name}.damaged").exists()


def test_with_both_copies_damaged_no_token_is_valid_and_a_new_one_can_be_made(
    settings: Settings, changes: TokenChanges, now: Clock, two_tokens: tuple[str, str]
) -> None:
    for path in copies(settings):
        path.write_bytes(b"{}")
    assert changes.is_closed()
    assert not is_valid(settings, now, two_tokens[1])
    made = changes.create("again", "admin", by="shell")
    assert is_valid(settings, now, made.text)
    assert not is_valid(settings, now, two_tokens[1])


@pytest.mark.parametrize("place", [0, 1])
def test_a_copy_from_before_the_loss_of_both_revives_no_token(
    settings: Settings, changes: TokenChanges, now: Clock, two_tokens: tuple[str, str], place: int
) -> None:
    old = copies(settings)[place].read_bytes()
    second = changes.list_tokens()[0]["id"]
    now.instant += HOUR
    changes.revoke(second, by="shell")
    for path in copies(settings):
        path.unlink()
    now.instant += HOUR
    made = changes.create("again", "admin", by="shell")
    copies(settings)[place].write_bytes(old)
    assert is_valid(settings, now, made.text)
    assert not any(is_valid(settings, now, text) for text in two_tokens)
    assert changes.is_closed()
    TokenFiles(settings).settle()
    copies(settings)[1 - place].unlink()
    assert is_valid(settings, now, made.text), "the old copy was not brought up to date"
    assert not any(is_valid(settings, now, text) for text in two_tokens)


def test_with_both_copies_gone_the_service_stays_closed(
    settings: Settings, changes: TokenChanges, now: Clock, two_tokens: tuple[str, str]
) -> None:
    for path in copies(settings):
        path.unlink()
    assert changes.is_closed()
    assert not is_valid(settings, now, two_tokens[1])
    assert is_valid(settings, now, changes.create("again", "admin", by="shell").text)
    changes.disable(by="shell")
    assert not changes.is_closed()


def test_a_file_of_a_later_version_is_not_changed_and_keeps_the_service_closed(
    settings: Settings, changes: TokenChanges, now: Clock, two_tokens: tuple[str, str]
) -> None:
    import msgspec

    from eventvault import small_files

    class Later(msgspec.Struct):
        format: int
        more: str

    for path in copies(settings):
        path.unlink()
        small_files.write(path, Later(2, "unknown"))
    before = [path.read_bytes() for path in copies(settings)]
    assert changes.is_closed()
    assert not is_valid(settings, now, two_tokens[1])
    for change in (lambda: changes.create("a", "read", by="shell"), lambda: changes.disable(by="shell")):
        with pytest.raises(TokensTooNew):
            change()
    assert [path.read_bytes() for path in copies(settings)] == before


@pytest.mark.slow
def test_tokens_of_another_installation_are_not_valid_here_and_can_be_adopted(
    settings: Settings, now: Clock, tmp_path: Path, settings_environment: dict[str, str]
) -> None:
    theirs = load({**settings_environment, **{
        name: str(tmp_path / "other" / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")
    }})  # fmt: skip
    their_token = TokenChanges(theirs, now).create("theirs", "admin", by="shell").text
    ensure_key(settings)
    shutil.copy(theirs.backup_dir / data_folders.TOKENS, settings.backup_dir)
    changes = TokenChanges(settings, now)
    assert changes.is_closed(), "it does not open up, though no token was made here"
    assert changes.foreign_tokens()
    assert not is_valid(settings, now, their_token)
    ours = changes.create("ours", "admin", by="shell").text
    assert is_valid(settings, now, ours)
    assert not is_valid(settings, now, their_token)
    shutil.copy(theirs.backup_dir / data_folders.TOKENS, settings.backup_dir)
    assert changes.adopt_backups() == 1
    assert is_valid(settings, now, their_token)
    assert not is_valid(settings, now, ours)


def test_nothing_can_be_adopted_where_there_is_nothing(changes: TokenChanges) -> None:
    with pytest.raises(NothingToRecover):
        changes.adopt_backups()


def test_tokens_survive_a_renewal_of_the_key(settings: Settings, now: Clock, two_tokens: tuple[str, str]) -> None:
    renew_key(settings)
    assert is_valid(settings, now, two_tokens[1])
    TokenFiles(settings).settle()
    shutil.rmtree(settings.storage_dir)
    assert is_valid(settings, now, two_tokens[1])
    assert not is_valid(settings, now, two_tokens[0])


def test_a_copy_that_cannot_be_written_is_named_and_written_later(
    settings: Settings, changes: TokenChanges, now: Clock
) -> None:
    changes.create("first", "read", by="shell")
    shutil.rmtree(settings.backup_dir)
    settings.backup_dir.write_text("a file in its place")
    made = changes.create("second", "read", by="shell")
    assert made.unwritten is not None
    assert changes.revoke(changes.create("third", "read", by="shell").token.id, by="shell").unwritten is not None
    assert is_valid(settings, now, made.text)
    settings.backup_dir.unlink()
    TokenFiles(settings).settle()
    shutil.rmtree(settings.storage_dir)
    assert is_valid(settings, now, made.text)


def test_nothing_is_made_where_it_cannot_be_written(changes: TokenChanges, monkeypatch: pytest.MonkeyPatch) -> None:
    changes.create("first", "read", by="shell")
    with monkeypatch.context() as patch:
        patch.setattr(token_files, "write_copy", _fail)
        with pytest.raises(DiskFailed):
            changes.create("second", "read", by="shell")
    assert [token["name"] for token in changes.list_tokens()] == ["first"]


def test_a_first_token_that_cannot_be_written_does_not_close_the_service(
    changes: TokenChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty mark finds room on a disk that is full."""
    with monkeypatch.context() as patch:
        patch.setattr(token_files, "write_copy", _fill)
        with pytest.raises(NoSpace):
            changes.create("first", "admin", by="shell")
    assert not changes.is_closed()
    changes.create("first", "admin", by="shell")
    assert changes.is_closed()


def _fill(*_: object) -> None:
    raise NoSpace("writing it failed: No space left on device", hint="free some space")


def _fail(*_: object) -> None:
    raise OSError(30, "Read-only file system")


def test_a_file_that_cannot_be_read_is_not_replaced(
    settings: Settings, changes: TokenChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes.create("first", "read", by="shell")

    def denied(path: Path, kind: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("eventvault.access.token_file.small_files.read", denied)
        assert changes.is_closed()
        with pytest.raises(DiskFailed):
            changes.create("second", "read", by="shell")
    assert [token["name"] for token in changes.list_tokens()] == ["first"]


@pytest.mark.slow
def test_two_that_make_tokens_at_once_both_succeed(settings: Settings, now: Clock) -> None:
    def make(number: int) -> str:
        return TokenChanges(settings, now).create(f"token-{number}", "read", by="shell").text

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(make, range(16)))
    assert all(is_valid(settings, now, text) for text in texts)
    content = TokenFiles(settings).read().content
    assert content is not None
    assert content.counter == 16


def test_a_change_waits_for_another_one_and_not_without_end(
    settings: Settings, changes: TokenChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes.create("first", "read", by="shell")
    monkeypatch.setattr(token_files, "LOCK_SECONDS", 0.05)
    with file_locks.holding(settings.storage_dir / data_folders.TOKENS_LOCK, 1.0), pytest.raises(TooBusy):
        changes.create("second", "read", by="shell")
