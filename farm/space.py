"""What a search may try, and what it looks for: from the sweep file to the trials of one config."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pydantic import ValidationError

from farm.base.config import canonical_json
from farm.base.errors import UserError, nearest, one_line
from farm.base.model import MODELS, Model
from farm.base.options import Door, spelled
from farm.base.search_space import Choice, Float, Int, Range, Search, When
from farm.evaluation.metric import MEASURES, METRICS, direction_of, metric_of, objectives
from farm.evaluation.scores import names_of
from farm.experiment import TrialConfig
from farm.models.heads import Ensemble
from farm.models.network import Network
from farm.plan import Plan, Trial, keys, narrowed, typed
from farm.studies.study import Source

Direction = Literal["min", "max", "optimum"]
SAMPLERS = ("tpe", "gp", "nsga2", "random")  # see `farm.tuning.search`
_INITIALS = ("rmse", "mae", "r2", "crps")
DIRECTIONS: tuple[Direction, ...] = ("min", "max", "optimum")


@dataclass(frozen=True)
class Objective:
    """One number of the validation block that a search makes small or large.

    Parameters
    ----------
    metric
        Its full name, such as ``val/pinball``.
    direction
        ``optimum``: the distance from the metric's optimum is made small.
    """

    metric: str
    direction: Direction

    @property
    def sign(self) -> int:
        """Give 1 where less is better, else -1."""
        return -1 if self.direction == "max" else 1

    @property
    def label(self) -> str:
        """Name it for people."""
        words = self.metric.split("/", 1)[1].replace("_", " ").split(" ")
        name = " ".join(["validation", *(w.upper() if w in _INITIALS else w for w in words)])
        return f"|{name} − nominal|" if self.direction == "optimum" else name

    def of(self, metrics: Mapping[str, float], levels: tuple[float, ...]) -> float:
        """Read it off a trial's metrics; NaN where it is not among them or not defined.

        Parameters
        ----------
        metrics
            By full name.
        levels
            The quantile levels of the trial's ranked forecast.
        """
        value = metrics.get(self.metric, math.nan)
        if self.direction != "optimum":
            return value
        metric = metric_of(self.metric)
        assert metric is not None  # held by `parse_objective`
        return abs(value - metric.optimum_at(levels))


def check_objectives(wanted: Sequence[Objective], bases: Iterable[TrialConfig], source: Source) -> None:
    """Refuse an objective that a model or its study does not give, before anything is trained.

    Raises
    ------
    UserError
        With the objective, the model and the nearest one that it gives.
    """
    for config in bases:
        data = config.study.dataset(source)
        model = config.model.build(data.refits[0].inputs if data.refits else data.inputs)
        quantiles = bool(config.model.quantile_levels)
        if isinstance(model, Network | Ensemble):
            for network in model.members if isinstance(model, Ensemble) else [model]:
                network.eval()
            quantiles = model.predict(data.val).quantiles is not None
        given = [name for name in objectives() if _gives(config.study.name, model, quantiles, name)]
        for objective in wanted:
            middle, _, last = objective.metric.removeprefix("val/").rpartition("/")
            metric = metric_of(last)
            if (
                f"val/{last if metric is None else metric.name}" not in given
                or not config.study.scores_on_validation(middle)
            ):
                raise UserError(
                    f"objective {objective.metric!r}: {config.model.name} in the study {config.study.name}"
                    f" does not give it: {nearest(objective.metric, given)}"
                )


def _gives(study: str, model: Model, quantiles: bool, name: str) -> bool:
    """Return whether a model gives a number of the validation block."""
    last = name.removeprefix("val/")
    if last in METRICS:
        return METRICS[last].reads == "point" or quantiles
    return any(
        last in entry.directions and isinstance(model, entry.requires or Model)
        for entry in (MEASURES[known] for known in names_of(study) if known not in METRICS)
    )


def parse_objective(text: str) -> Objective:
    """Read an objective, such as ``val/pinball`` or ``val/rmse:min``.

    Raises
    ------
    UserError
        If it is not of the validation block, or its metric or direction is unknown.
    """
    metric, colon, asked = text.strip().partition(":")
    block = metric.partition("/")[0]
    if block in ("test", "interval"):
        raise UserError(
            f"objective {metric!r}: the test block is never an objective: give a metric of the validation"
            " block, such as val/pinball"
        )
    known = direction_of(metric)
    if known is None:
        raise UserError(f"unknown objective {metric!r}: {nearest(metric, objectives())}")
    if colon and asked not in DIRECTIONS:
        raise UserError(f"objective {text!r}: unknown direction {asked!r}: {nearest(asked, DIRECTIONS)}")
    if asked == "optimum" and metric_of(metric) is None:
        raise UserError(f"objective {text!r}: got optimum, expected min or max: {metric} has none")
    wanted = asked or known
    return Objective(metric, next((one for one in DIRECTIONS if one == wanted), "optimum"))


@dataclass(frozen=True)
class Parameter:
    """One searched key; `given` is the other key, and its values, under which it exists."""

    key: str
    range: Range
    given: tuple[str, tuple[Any, ...]] | None = None

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Say whether it exists beside the values that were drawn before it."""
        return self.given is None or values.get(self.given[0], _NOWHERE) in self.given[1]

    def holds(self, value: Any) -> bool:
        """Say whether a value lies in its range."""
        if isinstance(self.range, Choice):
            return value in self.range.options
        if not isinstance(value, int | float):
            return False
        whole = isinstance(value, int) or not isinstance(self.range, Int)
        return whole and bool(self.range.low <= value <= self.range.high)


_NOWHERE = object()
Draw = Callable[[str, Range], Any]


class Space:
    """The configs that a search may try.

    Parameters
    ----------
    bases
        The configs that are searched from, one for each replicate, by its name.
    parameters
        What is searched; one that exists under a condition comes after the key of the condition.
    source
        The data, which a signature reads.

    Raises
    ------
    UserError
        If a key is unknown or cannot be searched, or a range leaves that of its field.
    """

    def __init__(
        self, bases: Mapping[str, TrialConfig], parameters: tuple[Parameter, ...], source: Source
    ) -> None:
        self.bases = dict(bases)
        self.parameters = parameters
        self._source = source
        declared: dict[str, Parameter] = {}
        for parameter in parameters:
            self._check(parameter, declared)
            declared[parameter.key] = parameter

    def _check(self, parameter: Parameter, before: Mapping[str, Parameter]) -> None:
        key, wanted = parameter.key, parameter.range
        values: dict[str, Any] = {}
        condition = parameter.given
        while condition is not None:
            other = before.get(condition[0])
            if other is None or not all(other.holds(value) for value in condition[1]):
                raise UserError(
                    f"search over {key}: it depends on {condition[0]} being"
                    f" {' or '.join(map(str, condition[1]))}, expected a key that is searched before it, over"
                    " these values among others: add it"
                )
            values[condition[0]] = condition[1][0]
            condition = other.given
        config = self._config(next(iter(self.bases.values())), dict(reversed(values.items())))
        declared = _declared_range(config, key)
        if isinstance(wanted, Choice):
            unknown = [option for option in wanted.options if not Parameter(key, declared).holds(option)]
            if unknown:
                known = declared.options if isinstance(declared, Choice) else (declared.low, declared.high)
                raise UserError(
                    f"search over {key}: unknown option {unknown[0]!r}:"
                    f" {nearest(str(unknown[0]), map(str, known))}"
                )
        elif isinstance(declared, Choice):
            raise UserError(
                f"search over {key}: got {wanted.low}..{wanted.high},"
                f" expected a choice of {', '.join(map(str, declared.options))}"
            )
        elif (
            wanted.low < declared.low
            or wanted.high > declared.high
            or (isinstance(declared, Int) and not isinstance(wanted, Int))
        ):
            kind = "whole numbers" if isinstance(declared, Int) else "a range"
            raise UserError(
                f"search over {key}: got {wanted.low}..{wanted.high}, expected {kind} within"
                f" {declared.low}..{declared.high}: narrow it"
            )

    def draw(self, draw: Draw) -> dict[str, Any]:
        """Draw one value for each parameter that exists; ``draw(key, range)`` gives it."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.exists(values):
                values[parameter.key] = draw(parameter.key, parameter.range)
        return values

    def trials(self, row: str, values: Mapping[str, Any], seed: int = 0) -> tuple[Trial, ...]:
        """Make the trials of one config, one for each replicate.

        Raises
        ------
        UserError
            If the values do not go together.
        """
        made = []
        for ticker, base in self.bases.items():
            config = self._config(base, values).model_copy(update={"seed": seed})
            made.append(Trial(row, "variant", ticker, config, config.signature(self._source)))
        return tuple(made)

    def values_of(self, stored: Mapping[str, Any]) -> dict[str, Any] | None:
        """Say which values a stored config stands for, on any replicate; None if it is not of this space.

        Parameters
        ----------
        stored
            A resolved config, JSON-ready.
        """
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.exists(values):
                value = _read(stored, parameter.key)
                if value is _NOWHERE or not parameter.holds(value):
                    return None
                values[parameter.key] = value
        for base in self.bases.values():
            try:
                if self._config(base, values).model_dump(mode="json") == stored:
                    return values
            except UserError:
                return None
        return None

    @property
    def trained(self) -> bool:
        """Say whether its configs draw something, so that seeds differ."""
        return next(iter(self.bases.values())).model.trained

    @property
    def digest(self) -> str:
        """Name what is searched from, the ranges and the data."""
        signed = sorted(config.signature(self._source) for config in self.bases.values())
        text = canonical_json([signed, [repr(parameter) for parameter in self.parameters]])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @staticmethod
    def _config(base: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
        resolved = json.loads(base.model_dump_json())
        name = values.get("model.name", base.model.name)
        if name != base.model.name:  # another model starts from its own defaults
            resolved["model"] = {"name": name}
        for key, value in values.items():
            *path, last = key.split(".")
            place = resolved
            for part in path:
                place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
            place[int(last) if isinstance(place, list) else last] = value
        try:
            return TrialConfig.model_validate_json(json.dumps(resolved))
        except ValidationError as error:
            raise UserError(one_line(error, f"config {dict(values)}")) from error


@dataclass(frozen=True)
class SearchPlan:
    """A sweep's search, resolved.

    Parameters
    ----------
    variant
        The row that it sets out from.
    space, objectives
        What may be tried, and what is looked for.
    samplers, samples
        Who proposes configs, and how many each.
    top
        How many of the best run again on every seed.
    stop_early
        Whether what falls behind is stopped.
    """

    variant: str
    space: Space
    objectives: tuple[Objective, ...]
    samplers: tuple[str, ...]
    samples: int
    top: int
    stop_early: bool

    def study(self, plan: Plan, sampler: str) -> str:
        """Name a sampler's study: another space or objective is another study."""
        text = canonical_json([self.space.digest, [repr(objective) for objective in self.objectives]])
        return f"{plan.name} {sampler} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def make_search(
    plan: Plan,
    settings: Mapping[str, Any],
    *,
    objectives: Sequence[str] = (),
    samplers: Sequence[str] = (),
    samples: int | None = None,
    quick: bool = False,
    door: Door = "command line",
) -> SearchPlan:
    """Resolve a sweep's search with what the user asks for beside; see `farm.base.search_space.Search`.

    Raises
    ------
    UserError
        As `parse_objective` and `make_space`, or if a sampler is unknown or an objective there twice.
    """
    search = plan.sweep.search
    assert search is not None
    small = plan.sweep.quick if quick else {}
    for name in samplers or search.samplers:
        if name not in SAMPLERS:
            raise UserError(f"unknown sampler {name!r}: {nearest(name, SAMPLERS)}")
    wanted = tuple(parse_objective(text) for text in objectives or search.objectives)
    if len({objective.metric for objective in wanted}) < len(wanted):
        raise UserError(
            f"objectives {', '.join(o.metric for o in wanted)}: one is there twice; give each once"
        )
    stopped_on = parse_objective(search.stopped_on) if search.stopped_on else None
    return SearchPlan(
        search.variant,
        make_space(plan, settings, door),
        wanted,
        tuple(samplers) or search.samplers,
        samples or small.get("samples", search.samples),
        small.get("top", search.top),
        wanted == (stopped_on,),
    )


def with_rows(plan: Plan, space: Space, rows: Mapping[str, Mapping[str, Any]], seeds: int) -> Plan:
    """Give a plan further rows, each with its searched values, on every replicate and seed."""
    more = [
        trial
        for row, values in rows.items()
        for seed in range(seeds if space.trained else 1)
        for trial in space.trials(row, values, seed)
    ]
    return replace(plan, trials=(*plan.trials, *more))


def make_space(plan: Plan, settings: Mapping[str, Any], door: Door = "command line") -> Space:
    """Make the space that a sweep's search declares, narrowed by the user.

    Parameters
    ----------
    plan
        The sweep; it has a search.
    settings
        What ``--set`` asks for: a range narrows one of the search, or adds one; a value fixes a key.
    door
        Where they were asked, for messages.

    Raises
    ------
    UserError
        If a key is unknown or cannot be searched, a range leaves that of its field, or nothing is left
        to search.
    """
    search = plan.sweep.search
    assert search is not None
    bases = {t.ticker: t.config for t in plan.trials if t.row == search.variant and t.config.seed == 0}
    if not bases:
        raise UserError(
            f"the search sets out from {search.variant!r}: leave it in {spelled(door, 'variants')}"
        )
    for row in (declared.name for declared in (*plan.sweep.variants, *plan.sweep.baselines)):
        if re.fullmatch(rf"({'|'.join(SAMPLERS)})-\d+", row):
            raise UserError(f"the row {row!r} is called as what the search tries: rename it")
    known = dict(keys(next(iter(bases.values()))))
    parameters = {parameter.key: parameter for parameter in _parameters(search)}
    asked = typed(settings, {*parameters, *known}, lambda key: spelled(door, "settings", key))
    astray = ""
    for name, (what, value) in asked.items():
        if isinstance(value, Float):
            old = parameters.get(name)
            asked_range = narrowed(what, name, value, known[name]) if name in known else value
            if isinstance(asked_range, Float) and old is not None and isinstance(old.range, Float):
                log = old.range.log and asked_range.low > 0
                asked_range = type(asked_range)(asked_range.low, asked_range.high, log)
            parameters[name] = Parameter(name, asked_range, None if old is None else old.given)
        else:
            if name not in known or (name.startswith("model.") and "model.name" in parameters):
                astray = astray or f"{what}: {name}"
            parameters.pop(name, None)
    if not parameters:
        raise UserError("what is set fixes every key of the search: leave one of them to search")
    if astray:
        raise UserError(
            f"{astray} is not of every config that is searched, so one value does not reach them all: set a"
            " range, or leave it out"
        )
    return Space(bases, tuple(parameters.values()), plan.source)


def _parameters(search: Search) -> Iterator[Parameter]:
    for key, declared in search.ranges.items():
        if isinstance(declared, When):
            yield Parameter(key, declared.range, (declared.key, declared.values))
        else:
            yield Parameter(key, declared)


def _declared_range(config: TrialConfig, key: str) -> Range:
    """Give the range that a config field declares, or that of a place in a tuple of them."""
    if key == "model.name":
        return Choice(tuple(MODELS))
    if key.startswith("study."):
        raise UserError(
            f"search over {key}: a study's keys decide the days that are scored, so they are not searched:"
            " make a row for each value"
        )
    known = dict(keys(config))
    whole, _, place = key.rpartition(".")
    item = place.isdigit() and whole in known
    if not item and key not in known:
        raise UserError(f"search over {key}: unknown key: {nearest(key, known)}")
    info = known[whole if item else key]
    metadata = get_args(get_args(info.annotation)[0])[1:] if item else info.metadata
    declared = next((m for m in metadata if isinstance(m, Float | Choice)), None)
    if declared is None:
        raise UserError(f"search over {key}: this field declares no range to search: give it one value")
    if item and not int(place) < len(_read(json.loads(config.model_dump_json()), whole)):
        raise UserError(f"search over {key}: {whole} has no such place: count from 0")
    return declared


def _read(config: Mapping[str, Any], key: str) -> Any:
    """Read a dotted key off a JSON-ready config."""
    value: Any = config
    for part in key.split("."):
        if isinstance(value, list):
            value = value[int(part)] if part.isdigit() and int(part) < len(value) else _NOWHERE
        else:
            value = value.get(part, _NOWHERE) if isinstance(value, Mapping) else _NOWHERE
    return value
