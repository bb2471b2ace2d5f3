"""The methods of a port, described by their annotations: both ends of a socket are made from this."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from eventvault.rpc.markers import Marks


@dataclass(frozen=True)
class Method:
    """A method of a port. argument_types: in the order of the signature. positional: how many are not keyword-only."""

    name: str
    port: type
    function: Callable[..., Any]
    marks: Marks
    argument_names: tuple[str, ...]
    argument_types: tuple[Any, ...]
    defaults: tuple[Any, ...]
    positional: int
    result_type: Any

    def ordered(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the arguments of a call in the order of the signature. Raises TypeError if they do not fit."""
        if not named and len(arguments) == len(self.argument_names):
            return arguments
        values = [*arguments, *self.defaults[len(arguments) :]]
        for name, value in named.items():
            if name not in self.argument_names[len(arguments) :]:
                raise TypeError(f"{self.name}() takes no further argument {name!r}")
            values[self.argument_names.index(name)] = value
        if inspect.Parameter.empty in values or len(values) > len(self.argument_names):
            raise TypeError(f"{self.name}() takes {', '.join(self.argument_names)}")
        return tuple(values)

    def named(self, arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional arguments and the keyword arguments, for a call of the owner."""
        first = self.positional
        return arguments[:first], dict(zip(self.argument_names[first:], arguments[first:], strict=True))


def _describe(port: type, name: str) -> Method:
    function = getattr(port, name)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    types = get_type_hints(function)
    return Method(
        name=name,
        port=port,
        function=function,
        marks=getattr(function, "marks", Marks()),
        argument_names=tuple(parameter.name for parameter in parameters),
        argument_types=tuple(types[parameter.name] for parameter in parameters),
        defaults=tuple(parameter.default for parameter in parameters),
        positional=sum(parameter.kind is not inspect.Parameter.KEYWORD_ONLY for parameter in parameters),
        result_type=types["return"],
    )


def _names(port: type) -> list[str]:
    return [name for name, value in vars(port).items() if inspect.isfunction(value) and not name.startswith("_")]


def methods_of(port: type) -> dict[str, Method]:
    """Return the methods of a port by name."""
    return {name: _describe(port, name) for name in _names(port)}
