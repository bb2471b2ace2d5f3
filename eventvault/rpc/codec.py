"""Requests and replies: `[method, arguments]`, and `[true, result]` or `[false, error]`.

A call that began an operation without waiting for it gets the reply `[null, operation id]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import msgspec

from eventvault import errors
from eventvault.operations.caller import OperationBegun


class Codec:
    """types: method → the type of the tuple of its arguments, and the type of its result; nothing else is read.

    form: `msgspec.msgpack`, or `msgspec.json` for values with a msgspec.Raw, which is JSON text.
    """

    def __init__(self, types: Mapping[str, tuple[Any, Any]], form: ModuleType = msgspec.msgpack) -> None:
        self._encode = form.Encoder().encode
        self._encode_error = form.Encoder(enc_hook=str).encode
        self._request = form.Decoder(tuple[str, msgspec.Raw])
        self._reply = form.Decoder(tuple[bool | None, msgspec.Raw])
        self._begun = form.Decoder(str)
        self._error = form.Decoder(dict[str, Any])
        self._arguments = {name: form.Decoder(arguments) for name, (arguments, _) in types.items()}
        self._results = {name: form.Decoder(result) for name, (_, result) in types.items()}

    def request(self, method: str, *arguments: Any) -> bytes:
        return self._encode((method, arguments))  # type: ignore[no-any-return]

    def read_request(self, frame: bytes) -> tuple[str, tuple[Any, ...]]:
        """Return the method and its arguments. Raises msgspec.MsgspecError or KeyError if it is not a request."""
        method, arguments = self._request.decode(frame)
        return method, self._arguments[method].decode(arguments)

    def reply(self, result: Any) -> bytes:
        return self._encode((True, result))  # type: ignore[no-any-return]

    def reply_begun(self, operation_id: str) -> bytes:
        return self._encode((None, operation_id))  # type: ignore[no-any-return]

    def reply_error(self, error: errors.EventVaultError) -> bytes:
        return self._encode_error((False, error.to_wire()))  # type: ignore[no-any-return]

    def read_reply(self, method: str, frame: bytes) -> Any:
        """Return the result. Raises the EventVaultError that the other end raised, or OperationBegun."""
        good, body = self._reply.decode(frame)
        if good is None:
            raise OperationBegun(self._begun.decode(body))
        if not good:
            raise errors.from_wire(self._error.decode(body))
        return self._results[method].decode(body)
