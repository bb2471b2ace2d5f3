"""Commands over HTTP with tokens: what each may, and the tokens themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from app.cli import watching
from app.cli.remote.errors import RemoteError
from app.cli.remote.store import RemoteStore
from app.cli.remote.tokens import RemoteTokens
from eventvault.access.changes import TokenChanges
from eventvault.errors import (
    EventVaultError,
    ScopeMissing,
    TokenExists,
    TokenMissing,
    TokenNotFound,
    TokenWrong,
)
from eventvault.settings import Settings
from tests.contract.events import drafts
from tests.served import remote_store, served

pytestmark = pytest.mark.slow


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with served(app) as address:
        yield address


@pytest.fixture
def admin(settings: Settings, url: str) -> Iterator[RemoteStore]:
    with remote_store(url, TokenChanges(settings).create("admin", "admin", by="shell").text) as store:
        yield store


def refused(url: str, token: str | None) -> EventVaultError:
    with remote_store(url, token) as store, pytest.raises(EventVaultError) as failed:
        store.list_backups()
    return failed.value


def test_a_missing_and_a_wrong_token_are_told_with_what_to_set(admin: RemoteStore, url: str) -> None:
    missing, wrong = refused(url, None), refused(url, "ev_4fQ2mZ8k_wrong")
    assert (type(missing), type(wrong)) == (TokenMissing, TokenWrong)
    for error in (missing, wrong):
        assert "EVENTVAULT_TOKEN" in error.hint
        assert "Authorization" not in error.hint
        assert "ev_4fQ2mZ8k_wrong" not in f"{error.message} {error.hint} {error.details}"


def test_a_token_may_do_over_http_what_its_scope_allows(admin: RemoteStore, url: str) -> None:
    token = RemoteTokens(admin).create("reader", "read", by="").text
    admin.append(drafts("a"))
    name = admin.create_backup().backup.name
    with remote_store(url, token) as reader:
        assert [entry.name for entry in reader.list_backups()] == [name]
        with reader.download(name) as content:
            assert content.read()
        for change in (
            lambda: reader.append(drafts("b")), reader.create_backup, lambda: reader.restore(name), reader.undo,
        ):  # fmt: skip
            with pytest.raises(ScopeMissing):
                change()
        assert reader.plan_restore(name)["archive"] == name


def test_tokens_are_made_replaced_listed_and_revoked(admin: RemoteStore, url: str) -> None:
    tokens = RemoteTokens(admin)
    made = tokens.create("cron", "backup", by="", expires="90d")
    assert (made.token.name, made.token.scope, made.token.by, made.previous) == ("cron", "backup", "admin", None)
    assert made.token.expires is not None
    with pytest.raises(TokenExists):
        tokens.create("cron", "backup", by="")
    again = tokens.rotate("cron", by="")
    assert again.previous is not None
    assert (again.previous.id, again.text != made.text) == (made.token.id, True)
    assert [token["name"] for token in tokens.list_tokens()].count("cron") == 2
    ended = tokens.revoke(again.token.id, by="")
    assert [(each.id, each.name) for each in ended.tokens] == [(again.token.id, "cron")]
    assert tokens.revoke(again.token.id, by="") == ended
    assert type(refused(url, again.text)) is TokenWrong
    with pytest.raises(TokenNotFound):
        tokens.rotate("nobody", by="")
    for strange in ("", "..", "a/b"):
        with pytest.raises(TokenNotFound):
            tokens.revoke(strange, by="")


def test_where_a_token_may_not_cancel_ctrl_c_says_that_the_work_goes_on(
    admin: RemoteStore, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = RemoteTokens(admin).create("cron", "backup", by="").text
    with remote_store(url, token) as cron:
        operation_id = watching.begin_operation(cron.create_backup)
        with pytest.raises(SystemExit) as ended:
            watching._cancel(cron, operation_id)
    assert ended.value.code == 130
    assert f"the operation {operation_id} goes on" in capsys.readouterr().err


def test_a_service_is_not_opened_from_elsewhere(admin: RemoteStore) -> None:
    with pytest.raises(RemoteError) as failed:
        RemoteTokens(admin).disable(by="")
    assert failed.value.exit_status == 2
