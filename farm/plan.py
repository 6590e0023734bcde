"""From a sweep file and the user's options to the resolved trials."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from farm.base.config import Config, canonical_json
from farm.base.errors import UserError, nearest, shown
from farm.base.model import MODELS
from farm.base.search_space import Choice, Float, Int, Range, Sweep, Variant
from farm.base.types import Inputs
from farm.data.panel import Panel
from farm.data.surface import Surfaces
from farm.experiment import TrialConfig
from farm.studies.study import Source
from farm.training.curriculum import CurriculumConfig
from farm.training.fit import TrainingConfig

Role = Literal["variant", "baseline"]
# What has an option of its own, or makes a row what it is.
_NOT_SET = {
    "study.name",
    "model.name",
    "study.ticker",
    "study.assets",
    "study.market",
    "study.peers",
    "seed",
}
WHOLE_PANEL = "all"  # stands for the ticker where a study reads all of them together


@dataclass(frozen=True)
class Options:
    """What a user asks for beside the sweep file; None leaves the sweep's own value."""

    tickers: tuple[str, ...] | None = None
    market: str | None = None
    peers: tuple[str, ...] | None = None
    seeds: int | None = None
    variants: tuple[str, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # by dotted or bare key
    samples: int | None = None
    quick: bool = False


@dataclass(frozen=True)
class Trial:
    """One resolved trial and its place in the table.

    Its `ticker` is that of its replicate: a ticker, ``"all"`` of a panel, or a record of surfaces.
    """

    row: str
    role: Role
    ticker: str
    config: TrialConfig
    signature: str

    @property
    def name(self) -> str:
        """Name the trial for people."""
        return f"{self.row} {self.ticker} seed {self.config.seed}"


@dataclass(frozen=True)
class Plan:
    """Every trial of a sweep, baselines first, with the data they read.

    What a search has `tried` beside is no row of the table; it counts where a p-value accounts for all
    that was tried.
    """

    name: str
    sweep: Sweep
    trials: tuple[Trial, ...]
    source: Source
    tried: tuple[Trial, ...] = ()

    @property
    def signature(self) -> str:
        """Name this set of trials."""
        text = canonical_json([self.name, sorted((t.row, t.signature) for t in self.trials)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def rows(self, role: Role) -> tuple[str, ...]:
        """Name the rows of one role in the order of the sweep."""
        return tuple(dict.fromkeys(trial.row for trial in self.trials if trial.role == role))


def make_plan(name: str, sweep: Sweep, source: Source, options: Options) -> Plan:
    """Resolve a sweep into its trials and check each before any is run.

    Parameters
    ----------
    name, sweep
        The sweep.
    source
        The whole panel or record of surfaces; the plan keeps what its trials read.
    options
        What the user asks for beside.

    Returns
    -------
    Plan
        Baselines first, since variants are compared with them; no signature twice.

    Raises
    ------
    UserError
        If a ticker, variant or key is unknown, a value out of its range, a block too short, or
        two rows are the same trial.
    """
    common = {**sweep.common, **{k: v for k, v in sweep.quick.items() if "." in k and options.quick}}
    quick = sweep.quick if options.quick else {}
    replicates, source = _replicates(sweep, source, options)
    seeds = options.seeds or quick.get("seeds", sweep.seeds)
    variants = _chosen(sweep.variants, options.variants)
    rows: list[tuple[Role, Variant]] = [("baseline", row) for row in sweep.baselines]
    rows += [("variant", row) for row in variants]
    rows = _with_settings(rows, common | next(iter(replicates.values())), options, sweep.ranges)
    trials = []
    for role, row in rows:
        for ticker, told in replicates.items():
            base = _trial_config({**common, **told, **row.values}, f"{role} {row.name}")
            for seed in range(seeds if base.model.trained else 1):
                config = base if seed == 0 else base.model_copy(update={"seed": seed})
                trials.append(Trial(row.name, role, ticker, config, config.signature(source)))
    _check(trials, source)
    return Plan(name, sweep, tuple(trials), source)


def _replicates(sweep: Sweep, source: Source, options: Options) -> tuple[dict[str, dict[str, Any]], Source]:
    """Name the replicates, with what the study is told of each, and cut the source to what is read."""
    if sweep.replicate == "surfaces":
        for option in ("tickers", "market", "peers"):
            if getattr(options, option) is not None:
                raise UserError(f"--{option}: this sweep reads surfaces: give --surface FILE, or nothing")
        assert isinstance(source, Surfaces)  # what `farm.sweep` reads for such a sweep
        return {source.source: {}}, source
    assert isinstance(source, Panel)
    beside, companions = _companions(sweep, options)
    own_panel = source.source != "bundled"
    quick = sweep.quick if options.quick else {}
    wanted = options.tickers or (None if own_panel else quick.get("tickers", sweep.tickers))
    tickers = wanted or tuple(ticker for ticker in source.bars if ticker not in companions)
    for ticker in tickers:
        if ticker in companions:
            what = "the market itself" if sweep.market else "one of the peers"
            raise UserError(
                f"ticker {ticker!r} is {what}: leave it out of --tickers or choose"
                f" {'another --market' if sweep.market else 'other --peers'}"
            )
    source = source.select(
        (*tickers, *companions), *((None, None) if own_panel else (sweep.start, sweep.end))
    )
    if sweep.replicate == "panel":
        return {WHOLE_PANEL: {**beside, "study.assets": tickers}}, source
    return {ticker: {**beside, "study.ticker": ticker} for ticker in tickers}, source


def _companions(sweep: Sweep, options: Options) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give what the study is told of the assets beside each ticker, and their names."""
    if sweep.market is not None:
        if options.peers is not None:
            raise UserError("--peers: this sweep reads a market, not peers: give --market instead")
        market = options.market or sweep.market
        return {"study.market": market}, (market,)
    if options.market is not None:
        raise UserError("--market: this sweep reads peers, not a market: give --peers instead")
    peers = options.peers or sweep.peers
    return {"study.peers": peers}, peers


def _chosen(variants: Sequence[Variant], names: tuple[str, ...] | None) -> list[Variant]:
    known = {row.name: row for row in variants}
    for name in names or ():
        if name not in known:
            raise UserError(f"unknown variant {name!r}: {nearest(name, known)}")
    return [row for row in variants if names is None or row.name in names]


def _trial_config(values: Mapping[str, Any], what: str) -> TrialConfig:
    """Make a trial config from dotted keys; settings of training reach the models that are trained."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"{what}: got {key!r} and {part!r} too, expected one of them: leave one out")
        place[last] = value
    training, curriculum = nested.pop("training", {}), nested.pop("curriculum", {})
    name = nested.get("model", {})
    if not isinstance(name, dict) or "name" not in name:
        raise UserError(f"{what}: 'model.name' is missing: give it a value, {nearest('', MODELS)}")
    model = MODELS[name["name"]]
    if model.trained:
        nested["training"] = TrainingConfig.make(training, f"{what}: training")
    if model.in_phases:
        nested["curriculum"] = CurriculumConfig.make(curriculum, f"{what}: curriculum")
    return TrialConfig.make(nested, what)


def keys(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give every dotted key of a config with its field."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from keys(value, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in _NOT_SET:
            yield f"{prefix}{name}", info


def _with_settings(
    rows: list[tuple[Role, Variant]],
    common: Mapping[str, Any],
    options: Options,
    declared: Mapping[str, Range],
) -> list[tuple[Role, Variant]]:
    """Apply ``--set`` to every row that has the key, and draw ``--samples`` from the ranges."""
    fields = {
        row.name: dict(keys(_trial_config({**common, **row.values}, f"{role} {row.name}")))
        for role, row in rows
    }
    everything = {key: info for known in fields.values() for key, info in known.items()}
    fixed: dict[str, Any] = {}
    ranges: dict[str, Range] = dict(declared)
    asked_ranges: list[str] = []
    for asked, value in options.settings.items():
        key = full_key(asked, everything)
        if isinstance(value, Float | Choice):
            asked_ranges.append(key)
            ranges[key] = narrowed(key, value, everything[key])
        else:
            fixed[key] = value
    if options.samples is None and asked_ranges:
        raise UserError(f"--set {asked_ranges[0]} is a range: say how many configs to draw with --samples N")
    if options.samples is not None and not ranges:
        raise UserError(
            "--samples: this sweep declares no ranges to draw from:"
            " give one, such as --set training.learning_rate=1e-4..1e-2"
        )
    out: list[tuple[Role, Variant]] = []
    for role, row in rows:
        values = {**row.values, **{k: v for k, v in fixed.items() if k in fields[row.name]}}
        drawn = {k: r for k, r in ranges.items() if k in fields[row.name] and role == "variant"}
        if options.samples is None or not drawn:
            out.append((role, Variant(name=row.name, values=values)))
            continue
        for i in range(options.samples):
            sample = {key: _draw(key, space, i) for key, space in drawn.items()}
            out.append((role, Variant(name=f"{row.name} sample {i + 1}", values={**values, **sample})))
    return out


def full_key(asked: str, known: Collection[str]) -> str:
    """Give the dotted key that ``--set`` means by a full key or by the end of one.

    Raises
    ------
    UserError
        If there is none, or several.
    """
    # Which split or phase a part is, is said in full: a bare "name" means nothing.
    bare = asked != "name"
    matches = [key for key in known if key == asked or (bare and key.endswith(f".{asked}"))]
    if len(matches) != 1:
        problem = (
            f"stands for {' and '.join(matches)}; give one of them" if matches else nearest(asked, known)
        )
        raise UserError(f"--set: {'ambiguous' if matches else 'unknown'} key {asked!r}: {problem}")
    return matches[0]


def narrowed(key: str, asked: Float | Choice, info: Any) -> Range:
    """Hold a user's range to the one that the field declares, and take its scale."""
    declared = next((m for m in info.metadata if isinstance(m, Float)), None)
    if key.startswith("study."):
        raise UserError(
            f"--set {key}: a study's keys decide the test days, so they cannot be drawn: give one value"
        )
    if declared is None or isinstance(asked, Choice):
        raise UserError(f"--set {key}: this field has no range to draw from: give one value")
    if asked.low < declared.low or asked.high > declared.high:
        raise UserError(
            f"--set {key}: got {asked.low}..{asked.high},"
            f" expected a range within {declared.low}..{declared.high}"
        )
    if isinstance(declared, Int):
        if asked.low != int(asked.low) or asked.high != int(asked.high):
            raise UserError(f"--set {key}: got {asked.low}..{asked.high}, expected whole numbers")
        return Int(int(asked.low), int(asked.high), declared.log)
    return Float(asked.low, asked.high, declared.log and asked.low > 0)


def _draw(key: str, space: Range, sample: int) -> Any:
    """Draw sample number i of a key; the same whatever else is drawn."""
    seed = int.from_bytes(hashlib.sha256(f"{key} {sample}".encode()).digest()[:8], "big")
    u = float(np.random.default_rng(seed).random())
    if isinstance(space, Choice):
        return space.options[int(u * len(space.options))]
    whole = isinstance(space, Int)
    low, high = (space.low, space.high + 1) if whole else (space.low, space.high)
    value = math.exp(math.log(low) + u * math.log(high / low)) if space.log else low + u * (high - low)
    return min(int(value), int(space.high)) if whole else value


def _check(trials: Sequence[Trial], source: Source) -> None:
    """Refuse doubled trials, and cut every dataset and build every model once."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        twin = seen.setdefault(trial.signature, trial)
        if twin is not trial:
            raise UserError(
                f"{twin.row!r} and {trial.row!r} are the same trial ({trial.signature}):"
                " drop one of them, or the --set that makes them equal"
            )
    inputs: dict[str, Inputs] = {}
    built = set()
    for trial in trials:  # first, since it names the phase that a short record is too short for
        if trial.config.curriculum is not None:
            trial.config.study.check(trial.config.curriculum, source)
    # The seeds of a row have its study and model, the very objects, in common.
    configs = [trial.config for trial in trials]
    for config in {(id(config.model), id(config.study)): config for config in configs}.values():
        study = config.study.model_dump_json()
        if study not in inputs:
            inputs[study] = config.study.dataset(source).inputs
        model = (config.model.model_dump_json(), study)
        if model not in built:
            config.model.build(inputs[study])
            built.add(model)


def parse_setting(text: str) -> tuple[str, Any]:
    """Read one ``--set key=value``: a number, true/false, a JSON list, a range ``low..high`` or text.

    Raises
    ------
    UserError
        If there is no ``=``, or a range is upside down or endless.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UserError(f"--set {text!r}: expected key=value, such as --set hidden_size=32")
    key, value = key.strip(), value.strip()
    low, dots, high = value.partition("..")
    if dots:
        try:
            ends = float(low), float(high)
            if not all(map(math.isfinite, ends)):
                raise ValueError
            return key, Float(*ends)
        except ValueError:
            raise UserError(
                f"--set {shown(key)}: got {shown(value)}, expected a range of numbers such as 1e-4..1e-2"
            ) from None
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):  # the latter: a thousand brackets
        return key, value
