"""The methods of the ports of the store, described by their annotations."""

from __future__ import annotations

from typing import Protocol

from eventvault.rpc.methods import Method, methods_of
from eventvault.store.ports.store import Store

ALL: dict[str, Method] = {
    name: method for port in Store.__bases__ if port is not Protocol for name, method in methods_of(port).items()
}
"""Name → method, of every port."""
