"""The table of requests: it has every method of the ports, or the name of what HTTP cannot say."""

from __future__ import annotations

import pytest

from app.cli.remote.address import ServiceAddress
from app.cli.remote.calls import CALLS, NOT_OVER_HTTP
from app.cli.remote.errors import RemoteError
from app.cli.remote.store import RemoteStore
from app.cli.remote.transport import Transport
from eventvault.store.ports import methods

SEVERAL_REQUESTS = {
    "adopt_upload", "diff", "lease_generation", "plan_restore", "rehearse", "resolve_moment", "restore_moment",
    "resume", "scan", "wait_for_events", "watch_operations",
}  # fmt: skip


def test_each_method_of_the_ports_is_a_request_or_several_or_refused() -> None:
    assert set(methods.ALL) == set(CALLS) | SEVERAL_REQUESTS | set(NOT_OVER_HTTP)
    assert not set(CALLS) & set(NOT_OVER_HTTP)


@pytest.mark.parametrize("name", NOT_OVER_HTTP)
def test_what_http_cannot_say_is_refused_as_a_wrong_command_line(name: str) -> None:
    store = RemoteStore.over(Transport(ServiceAddress("http", "127.0.0.1", 9)))
    arguments = [None] * len(methods.ALL[name].argument_names)
    with pytest.raises(RemoteError) as refused:
        getattr(store, name)(*arguments)
    assert (refused.value.code, refused.value.exit_status) == ("not_over_url", 2)


@pytest.mark.parametrize("name", CALLS)
def test_a_request_takes_the_arguments_of_its_method_by_their_names(name: str) -> None:
    wanted = methods.ALL[name].argument_names
    code = CALLS[name].request.__code__
    assert code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] == wanted
