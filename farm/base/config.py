"""Frozen, strict configs and the signature that names a trial everywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from farm.base.errors import UserError, one_line


class Config(BaseModel):
    """Base of every config: frozen, strict, closed to unknown keys.

    A component owns the config that builds it. When a change alters a component's numbers, raise
    its ``VERSION``: results of the old one are then no longer taken for results of the new one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    VERSION: ClassVar[int] = 1

    @classmethod
    def make(cls, values: Mapping[str, Any], what: str) -> Self:
        """Validate values, with a one-line complaint.

        Parameters
        ----------
        values
            Field values by name.
        what
            The thing that is being made, for the message.

        Returns
        -------
        Self
            The config.

        Raises
        ------
        UserError
            If a key is unknown, missing or its value out of range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(one_line(error, what, cls.model_fields)) from error

    def versioned(self) -> dict[str, Any]:
        """Dump the resolved values with the version of every component in them.

        Returns
        -------
        dict
            JSON-ready values; each nested config carries ``__version__``.
        """
        values = self.__dict__
        fields = {name: _versioned(values[name]) for name in type(self).__pydantic_fields__}
        return {"__version__": self.VERSION, **fields}


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _versioned(value: Any) -> Any:
    """Dump a field: a config with its version, a tuple item by item."""
    if type(value) in _PLAIN:  # most are, and a sweep may have ten thousand trials
        return value
    if isinstance(value, Config):
        return value.versioned()
    return [_versioned(item) for item in value] if isinstance(value, tuple) else value


def listed(value: Any) -> Any:
    """Take a list, as JSON has it, for a tuple: a validator of tuple fields."""
    return tuple(value) if isinstance(value, list) else value


def canonical_json(value: Any) -> str:
    """Write a value as JSON in one way only: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def signature(config: Config, data_digest: str) -> str:
    """Name a trial by what decides its numbers.

    The resolved config, the versions of its components and the digest of the data it reads enter;
    runtime knobs (device, workers, concurrency, paths) do not.

    Parameters
    ----------
    config
        The fully resolved trial config.
    data_digest
        Digest of the data that the trial reads.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    text = canonical_json({"config": config.versioned(), "data": data_digest})
    return hashlib.sha256(text.encode()).hexdigest()[:16]
