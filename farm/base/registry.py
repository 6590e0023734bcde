"""Passive, loud registries: a name stands for one thing; an unknown name lists its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from farm.base.config import Config
from farm.base.errors import UserError, nearest, shown

T = TypeVar("T")
C = TypeVar("C", bound=type[Config])


class Registry(Generic[T]):
    """Names of one kind of component.

    Parameters
    ----------
    kind
        What is registered, for messages, such as ``"model"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> None:
        """Add an entry.

        Raises
        ------
        ValueError
            If the name is taken: that is a mistake in the program, not of a user.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        """Look an entry up.

        Raises
        ------
        UserError
            If the name is unknown; the message names the closest one.
        """
        if not isinstance(name, str) or name not in self._entries:  # a file may hold anything
            raise UserError(f"unknown {self.kind} {shown(name)}: {nearest(str(name), self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in order of registration."""
        return iter(self._entries)


def component(registry: Registry[C]) -> Callable[[C], C]:
    """Register a config class under the default of its ``name`` field."""

    def add(cls: C) -> C:
        registry.register(cls.__pydantic_fields__["name"].default, cls)
        return cls

    return add


def resolve(registry: Registry[C], value: Any) -> Any:
    """Make the config that a mapping with a ``name`` asks for; anything else passes through."""
    if not isinstance(value, Mapping):
        return value
    if "name" not in value:
        raise UserError(f"{registry.kind}.name is missing: {nearest('', registry)}")
    return registry[value["name"]].make(value, f"{registry.kind} {value['name']}")
