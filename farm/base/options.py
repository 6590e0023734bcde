"""What a user asks for beside a sweep, with its limits: the command line and Python make the same object."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from farm.base.errors import UserError, shown
from farm.base.search_space import Day, Float, Samples, Seeds

Door = Literal["command line", "Python"]
_OPTIONS = {"settings": "set", "samplers": "sampler", "objectives": "objective"}  # of another name
EXPECTED_NAME = (
    "a name of at most 100 letters, digits, spaces, dots, dashes and underscores that begins with a letter or"
    " digit"
)


def spelled(door: Door, name: str, key: str = "") -> str:
    """Return an option as its user writes it: ``--seeds``, ``seeds=``; `key` is one of the settings."""
    if door == "Python":
        return f"settings[{key!r}]" if key else f"{name}="
    return f"--{_OPTIONS.get(name, name).replace('_', '-')}{key and f' {key}'}"


@contextlib.contextmanager
def options_of(door: Door) -> Iterator[None]:
    """Turn the first complaint about an option into one line that names it as its user does.

    Raises
    ------
    UserError
        If an option is not as expected.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        expected = re.sub(r"^(Input should be|String should have|Value error,) ", "", first["msg"])
        if not expected.startswith("got "):
            expected = f"got {shown(first['input'])}, expected {expected}"
        raise UserError(f"{spelled(door, str(first['loc'][0]))}: {expected}") from error


def check_name(name: str) -> str:
    """Validate what a sweep is called: ``results/NAME/`` is made of it.

    Raises
    ------
    ValueError
        If it is no name of a folder everywhere.
    """
    if not re.fullmatch(r"\w[\w .-]{0,99}", name) or len(name.encode()) > 200:
        raise ValueError(EXPECTED_NAME)
    return name


def _plain(value: Any) -> Any:
    """Return a number or an array of numpy, and what holds some, as Python's own."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    return value


def _place(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _some(value: str) -> str:
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value


def _names(value: Any) -> Any:
    """Return names of a text, where commas separate them and each counts once, or of a list."""
    names: list[Any]
    if isinstance(value, str):
        names = list(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    elif isinstance(value, Iterable) and not isinstance(value, Mapping | bytes | set | frozenset):
        names = list(value)
    else:
        raise ValueError("names: a list of texts, or one text with commas")
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("names: a list of texts, or one text with commas")
    if not names:
        raise ValueError(f"got an empty list {value!r}, expected one name or more: leave it out for all")
    return tuple(map(str, names))


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Text = Annotated[str, AfterValidator(_some)]
Place = Annotated[Text, BeforeValidator(_place)]
Concurrency = Annotated[int, Field(strict=True, ge=1, le=10_000), BeforeValidator(_plain)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True), BeforeValidator(_plain)]


class Options(BaseModel):
    """What a user asks for beside the sweep and its data; None leaves the sweep's own value.

    Parameters
    ----------
    door
        Where it was asked, for messages.
    name
        How a declaration is to be called; None for ``"sweep"``.
    quick
        Whether the sweep's small version is run.
    tickers, market, peers
        Which assets.
    start, end
        First and last day that is read, ISO dates, both included.
    seeds
        Number of seeds of each variant.
    epochs
        Most epochs of a network: another name of the setting ``training.epochs``.
    variants
        Which rows, by name; the baselines always run.
    settings
        Values by dotted or bare key. A text is read as the command line does; a `Float` and a tuple of two
        numbers are ranges.
    samples
        Configs to draw of each variant, or that each sampler of a search tries.
    study, samplers, objectives
        Of a sweep that searches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    door: Door = "command line"
    name: Annotated[str, BeforeValidator(lambda v: check_name(v) if isinstance(v, str) else v)] | None = None
    quick: bool = False
    tickers: Names | None = None
    market: Text | None = None
    peers: Names | None = None
    start: Day | None = None
    end: Day | None = None
    seeds: Annotated[Seeds, BeforeValidator(_plain)] | None = None
    epochs: Annotated[int, Field(ge=1, le=100_000), BeforeValidator(_plain)] | None = None
    variants: Names | None = None
    settings: Mapping[str, Any] = Field(default_factory=dict)
    samples: Annotated[Samples, BeforeValidator(_plain)] | None = None
    study: Text | None = None
    samplers: Names | None = None
    objectives: Names | None = None

    @field_validator("settings", mode="before")
    @classmethod
    def _read_settings(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ValueError("values by key, such as {'training.epochs': 5}")
        read = {}
        for key, setting in value.items():
            if not isinstance(key, str) or not key.strip():
                raise ValueError(f"got the key {shown(key)}, expected a text such as 'training.epochs'")
            what = spelled(info.data["door"], "settings", key)
            read[key] = read_value(setting, what) if isinstance(setting, str) else _range(_plain(setting))
        return read

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.start is not None and self.end is not None and self.start > self.end:
            raise UserError(
                f"{self.spell('start')}: got {self.start}, which is after {self.spell('end')} {self.end}:"
                " correct one of them"
            )
        epochs = self.settings.get("training.epochs", self.epochs)
        if self.epochs is not None and (epochs != self.epochs or isinstance(epochs, bool)):
            raise _both(self.spell("epochs"), self.spell("settings", "training.epochs"), self.epochs, epochs)
        return self

    def spell(self, name: str, key: str = "") -> str:
        """Return an option as its user writes it; see `spelled`."""
        return spelled(self.door, name, key)

    def spell_key(self, key: str) -> str:
        """Return what a key of `chosen` was written as."""
        by_epochs = key == "training.epochs" and key not in self.settings
        return self.spell("epochs") if by_epochs else self.spell("settings", key)

    @property
    def chosen(self) -> dict[str, Any]:
        """Return what is set, by dotted or bare key: the settings, and the epochs."""
        return {**self.settings, **({} if self.epochs is None else {"training.epochs": self.epochs})}


def _both(one: str, other: str, value: Any, other_value: Any) -> UserError:
    """Return the complaint about two inputs that decide one thing."""
    return UserError(
        f"{one} and {other} decide the same: got {shown(value)} and {shown(other_value)}, expected one of"
        " them: leave the other out"
    )


def once(typed: dict[str, tuple[str, Any]], key: str, what: str, value: Any) -> None:
    """Note what was typed for a key, and refuse a second value of it.

    Parameters
    ----------
    typed
        How each key was written, and its value.
    key, what, value
        The full key, how it is written this time, and its value.

    Raises
    ------
    UserError
        If the key was typed before, in this or another spelling, with another value.
    """
    before = typed.setdefault(key, (what, value))
    if type(before[1]) is not type(value) or before[1] != value:
        raise _both(before[0], what, before[1], value)


def _range(value: Any) -> Any:
    """Return a pair of numbers as the range that it stands for, anything else as it is."""
    numbers = isinstance(value, tuple) and all(type(end) in (int, float) for end in value)
    return Float(*value) if numbers and len(value) == 2 and all(map(math.isfinite, value)) else value


def read_value(text: str, what: str) -> Any:
    """Read a setting: a number, true/false, a JSON list, a range ``low..high`` or text.

    Raises
    ------
    UserError
        If a range is upside down or endless.
    """
    text = text.strip()
    low, dots, high = text.partition("..")
    if dots:
        try:
            ends = float(low), float(high)
            if not all(map(math.isfinite, ends)) or high.startswith("."):
                raise ValueError
        except ValueError:
            raise UserError(
                f"{what}: got {shown(text)}, expected a range of numbers such as 1e-4..1e-2"
            ) from None
        return Float(*ends)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the latter: a thousand brackets
        return text


def parse_setting(text: str) -> tuple[str, Any]:
    """Read one ``--set key=value``; see `read_value`.

    Raises
    ------
    UserError
        If there is no ``=``, or a range is upside down or endless.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UserError(f"--set {text!r}: expected key=value, such as --set hidden_size=32")
    return key.strip(), read_value(value, f"--set {shown(key.strip())}")


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read every ``--set key=value``.

    Raises
    ------
    UserError
        If one is none, or a key is there twice with two values.
    """
    typed: dict[str, tuple[str, Any]] = {}
    for text in texts:
        key, value = parse_setting(text)
        once(typed, key, f"--set {shown(text)}", value)
    return {key: value for key, (_, value) in typed.items()}
