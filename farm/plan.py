"""From a sweep file and the user's options to the resolved trials."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from farm.base.config import Config, canonical_json
from farm.base.errors import UserError, nearest
from farm.base.model import MODELS
from farm.base.options import Options as Options
from farm.base.options import once
from farm.base.options import parse_setting as parse_setting
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
    that was tried. So does what `earlier` runs of the sweep have tried on these test days. `notes` say what
    is run of a user's own data, where the sweep declares something else.
    """

    name: str
    sweep: Sweep
    trials: tuple[Trial, ...]
    source: Source
    tried: tuple[Trial, ...] = ()
    earlier: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()

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
        What the user asks for beside. Of a sweep that searches, ranges and the number of samples are the
        search's, and its rows have fixed values alone.

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
    replicates, source, notes = _replicates(sweep, source, options)
    seeds = options.seeds or quick.get("seeds", sweep.seeds)
    rows: list[tuple[Role, Variant]] = [("baseline", row) for row in sweep.baselines]
    rows += [("variant", row) for row in _chosen(sweep.variants, options.variants)]
    shared = common | next(iter(replicates.values()))
    useless = _useless_ranges(sweep, shared)
    rows = _with_settings(rows, shared, options, sweep, useless)
    (twice, count), *_ = Counter(row.name for _, row in rows).most_common(1)
    if count > 1:
        raise UserError(f"got a row {twice!r}, which is also the name of a sample: rename the row")
    trials = []
    for role, row in rows:
        for ticker, told in replicates.items():
            base = _trial_config({**common, **told, **row.values}, f"{role} {row.name}")
            for seed in range(seeds if base.model.trained else 1):
                config = base if seed == 0 else base.model_copy(update={"seed": seed})
                trials.append(Trial(row.name, role, ticker, config, config.signature(source)))
    _check(trials, source)
    return Plan(name, sweep, tuple(trials), source, notes=notes)


def _replicates(
    sweep: Sweep, source: Source, options: Options
) -> tuple[dict[str, dict[str, Any]], Source, tuple[str, ...]]:
    """Name the replicates, with what the study reads of each, cut the source to it, and note what is cut."""
    if sweep.replicate == "surfaces":
        for option in ("tickers", "market", "peers"):
            if getattr(options, option) is not None:
                raise UserError(
                    f"{options.spell(option)}: this sweep reads surfaces: give"
                    f" {options.spell('surface')} FILE, or nothing"
                )
        assert isinstance(source, Surfaces)  # what `farm.sweep` reads for such a sweep
        first, last, notes = _days(sweep, source.source, source.source != "simulated", options)
        cut = source.select(first, last)
        return {source.source: {}}, cut, notes
    assert isinstance(source, Panel)
    own_panel = source.source != "bundled"
    beside, companions = _companions(sweep, options)
    first, last, notes = _days(sweep, source.source, own_panel, options)
    tickers = options.tickers
    if tickers is None:
        tickers, note = _declared_tickers(sweep, source, companions, own_panel, options)
        notes = (*note, *notes)
    for ticker in tickers:
        if ticker in companions:
            what, other = ("the market itself", "market") if sweep.market else ("one of the peers", "peers")
            raise UserError(
                f"ticker {ticker!r} is {what}: leave it out of {options.spell('tickers')} or choose"
                f" {'another' if sweep.market else 'other'} {options.spell(other)}"
            )
    source = source.select((*tickers, *companions), first, last)
    if sweep.replicate == "panel":
        return {WHOLE_PANEL: {**beside, "study.assets": tickers}}, source, notes
    return {ticker: {**beside, "study.ticker": ticker} for ticker in tickers}, source, notes


def _declared_tickers(
    sweep: Sweep, source: Panel, companions: tuple[str, ...], own_panel: bool, options: Options
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tickers that a sweep declares, or all of a user's panel that lacks one; and what to say."""
    declared: tuple[str, ...] = (sweep.quick if options.quick else {}).get("tickers", sweep.tickers)
    there = tuple(ticker for ticker in source.bars if ticker not in companions)
    lacking = [ticker for ticker in declared if ticker not in source.bars]
    if not own_panel or (not lacking and set(there) == set(declared)):
        return declared, ()
    if not lacking:
        return declared, (
            f"tickers: the {len(declared)} that the sweep declares, of {len(there)} in {source.source}:"
            f" {options.spell('tickers')} chooses others",
        )
    some = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
    return there, (
        f"tickers: all {len(there)} of {source.source}, which lacks {some} of those that the sweep declares:"
        f" {options.spell('tickers')} chooses some",
    )


def _days(
    sweep: Sweep, source: str, own: bool, options: Options
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return the first and the last day to read, and a line where a user's own data meets declared days."""
    bounds = [(sweep.start, sweep.end)] + ([] if own else [sweep.panel_days])
    firsts, lasts = ([day for day in days if day is not None] for days in zip(*bounds, strict=True))
    first = options.start or max(firsts, default=None)
    last = options.end or min(lasts, default=None)
    if first is not None and last is not None and first > last:
        raise UserError(
            f"got {first} as the first day and {last} as the last one, expected them in order: correct"
            f" {options.spell('start')} or {options.spell('end')}"
        )
    if not own or (options.start is not None and options.end is not None):
        return first, last, ()
    change = f"{options.spell('start')} and {options.spell('end')} choose others"
    if sweep.start is not None or sweep.end is not None:
        span = f"from {first or 'the first'} to {last or 'the last'}"
        return first, last, (f"days: {span}, as the sweep declares, of {source}: {change}",)
    if any(sweep.panel_days) and options.start is None and options.end is None:
        span = f"{sweep.panel_days[0] or 'the first'} to {sweep.panel_days[1] or 'the last'}"
        note = f"days: all of {source}, since {span} are those of the bundled table: {change}"
        return first, last, (note,)
    return first, last, ()


def _companions(sweep: Sweep, options: Options) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give what the study is told of the assets beside each ticker, and their names."""
    if sweep.market is not None:
        if options.peers is not None:
            raise UserError(
                f"{options.spell('peers')}: this sweep reads a market, not peers: give"
                f" {options.spell('market')} instead"
            )
        market = options.market or sweep.market
        return {"study.market": market}, (market,)
    if options.market is not None:
        raise UserError(
            f"{options.spell('market')}: this sweep reads peers, not a market: give {options.spell('peers')}"
            " instead"
        )
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


def _useless_ranges(sweep: Sweep, common: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return which variants do not take a declared range, by row and key.

    Raises
    ------
    UserError
        If no variant has its key, or none takes its ends.
    """
    useless: set[tuple[str, str]] = set()
    for key, space in sweep.ranges.items():
        ends = space.options if isinstance(space, Choice) else (space.low, space.high)
        known: set[str] = set()
        refused: list[UserError] = []
        able = 0
        for row in sweep.variants:
            values = {**common, **row.values}
            fields = dict(keys(_trial_config(values, f"variant {row.name}")))
            known |= fields.keys()
            able += key in fields
            try:
                for end in ends if key in fields else ():
                    _trial_config({**values, key: end}, f"range of {key}: variant {row.name}")
            except UserError as error:
                refused.append(error)
                useless.add((row.name, key))
        if key not in known:
            raise UserError(f"sweep {sweep.title!r}: ranges: unknown key {key!r}: {nearest(key, known)}")
        if len(refused) == able:
            raise refused[0]
    return useless


def _with_settings(
    rows: list[tuple[Role, Variant]],
    common: Mapping[str, Any],
    options: Options,
    sweep: Sweep,
    useless: Collection[tuple[str, str]],
) -> list[tuple[Role, Variant]]:
    """Apply the settings to every row that has the key, and draw ``--samples`` from the ranges.

    What is typed for a key is what it has: a value takes its range away.
    """
    fields = {
        row.name: dict(keys(_trial_config({**common, **row.values}, f"{role} {row.name}")))
        for role, row in rows
    }
    everything = {key: info for known in fields.values() for key, info in known.items()}
    ranges: dict[str, Range] = dict(sweep.ranges)
    searched = () if sweep.search is None else sweep.search.ranges
    samples = options.samples if sweep.search is None else None
    fixed: dict[str, Any] = {}
    asked_ranges: dict[str, str] = {}
    for key, (what, value) in typed(options.chosen, {*everything, *searched}, options.spell_key).items():
        if isinstance(value, Float | Choice):
            if sweep.search is None:
                asked_ranges[key] = what
                ranges[key] = narrowed(what, key, value, everything[key])
        elif key in everything:
            fixed[key] = value
            ranges.pop(key, None)
    if samples is None and asked_ranges:
        raise UserError(
            f"{next(iter(asked_ranges.values()))} is a range: say how many configs to draw with"
            f" {options.spell('samples')}"
        )
    drawn = {
        row.name: {
            k: r
            for k, r in ranges.items()
            if k in fields[row.name] and (k in asked_ranges or (row.name, k) not in useless)
        }
        for role, row in rows
        if role == "variant"
    }
    for key, what in asked_ranges.items():
        if not any(key in spaces for spaces in drawn.values()):
            raise UserError(f"{what}: no variant has this key, and baselines draw nothing: give one value")
    if samples is not None and not any(drawn.values()):
        lacking = (
            "the settings fix every key that has a range, so nothing is left to draw: leave one of them out,"
            if sweep.ranges.keys() & fixed.keys()
            else "this sweep declares no ranges to draw from: leave it out,"
        )
        raise UserError(
            f"{options.spell('samples')}: {lacking} or set a range, such as"
            f" {options.spell('settings', 'training.learning_rate')} to 1e-4..1e-2"
        )
    out: list[tuple[Role, Variant]] = []
    for role, row in rows:
        values = {**row.values, **{k: v for k, v in fixed.items() if k in fields[row.name]}}
        spaces = drawn.get(row.name) if role == "variant" else None
        if samples is None or not spaces:
            out.append((role, Variant(name=row.name, values=values)))
            continue
        for i in range(samples):
            sample = {key: _draw(key, space, i) for key, space in spaces.items()}
            out.append((role, Variant(name=f"{row.name} sample {i + 1}", values={**values, **sample})))
    return out


def typed(
    settings: Mapping[str, Any], known: Collection[str], spell: Callable[[str], str]
) -> dict[str, tuple[str, Any]]:
    """Return how each setting is written and its value, by full key.

    Raises
    ------
    UserError
        If a key is unknown or stands for several, or two settings are of one key.
    """
    found: dict[str, tuple[str, Any]] = {}
    for asked, value in settings.items():
        what = spell(asked)
        once(found, full_key(asked, known, what), what, value)
    return found


def full_key(asked: str, known: Collection[str], what: str = "--set") -> str:
    """Return the dotted key that a setting means by a full key or by the end of one.

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
        raise UserError(f"{what}: {'ambiguous' if matches else 'unknown'} key {asked!r}: {problem}")
    return matches[0]


def narrowed(what: str, key: str, asked: Float | Choice, info: Any) -> Range:
    """Hold a user's range to the one that the field declares, and take its scale."""
    declared = next((m for m in info.metadata if isinstance(m, Float)), None)
    if key.startswith("study."):
        raise UserError(
            f"{what}: a study's keys decide the test days, so they cannot be drawn: give one value"
        )
    if declared is None or isinstance(asked, Choice):
        raise UserError(f"{what}: this field has no range to draw from: give one value")
    if asked.low < declared.low or asked.high > declared.high:
        raise UserError(
            f"{what}: got {asked.low}..{asked.high}, expected a range within {declared.low}..{declared.high}"
        )
    if isinstance(declared, Int):
        if asked.low != int(asked.low) or asked.high != int(asked.high):
            raise UserError(f"{what}: got {asked.low}..{asked.high}, expected whole numbers")
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
