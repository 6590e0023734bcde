"""Ray Tune's OptunaSearch, mended, and the search for configs that is built on it.

As shipped (ray 2.60) it says COMPLETE of a trial that a scheduler stopped early, so a sampler takes a
half-taught model for a finished one; it leaves a trial with a NaN result RUNNING for ever; and, with a
study on disk, a driver that was killed cannot be restored, since what it had told after its last
snapshot is told again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from optuna import Study, Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from farm.base.errors import UserError
from farm.base.search_space import Range
from farm.space import Objective, Space
from farm.store import Record, Store
from farm.tuning.engine import STORED
from farm.tuning.studies import ERROR, INTERRUPTED, KIND, REPEAT, SIGNATURES, distribution, left_of, option

REPEATS = 30  # proposals in a row that were all tried before, after which a space counts as used up


class MendedOptunaSearch(OptunaSearch):  # type: ignore[misc]  # ray is not typed
    """OptunaSearch that tells PRUNED, FAIL and COMPLETE apart, and can be restored.

    A trainable reports the key `STORED` with its last result; a trial that ends without was stopped.
    """

    step = "training_iteration"

    def _running(self, trial_id: str) -> bool:
        """Say whether Optuna, on disk, still waits for this trial."""
        trial = self._ot_trials.get(trial_id)
        return trial is not None and not self._on_disk(trial).state.is_finished()

    def _on_disk(self, trial: Trial) -> Any:
        return self._ot_study.get_trials(deepcopy=False)[trial.number]

    def _intermediate(self, result: dict[str, Any]) -> float | None:
        """Read what a result says of a trial that goes on; None in a search for several objectives."""
        return result.get(self.metric) if isinstance(self.metric, str) else None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an intermediate result on, once."""
        if not self._running(trial_id):
            return
        trial, value = self._ot_trials[trial_id], self._intermediate(result)
        if value is not None and result[self.step] not in self._on_disk(trial).intermediate_values:
            trial.report(value, result[self.step])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell how a trial ended; one that was told before, by a driver that was killed, is left alone."""
        if not self._running(trial_id):
            return
        result = result or {}
        names = [self.metric] if isinstance(self.metric, str) else list(self.metric)
        values = [float(result.get(name, math.nan)) for name in names]
        if STORED in result and not error:
            state = TrialState.COMPLETE if all(map(math.isfinite, values)) else TrialState.FAIL
        else:
            # Tune keeps the result on which it stops a trial from the searcher until now.
            self.on_trial_result(trial_id, result)
            last = self._intermediate(result)
            broken = error or not result or (last is not None and math.isnan(last))
            state = TrialState.FAIL if broken else TrialState.PRUNED
        told = values if state == TrialState.COMPLETE else None
        self._ot_study.tell(self._ot_trials[trial_id], told, state=state)

    def restore(self, checkpoint_path: str) -> None:
        """Take back a snapshot; a trial that was asked for after it, and lost, has failed."""
        super().restore(checkpoint_path)
        mine = {trial.number for trial in self._ot_trials.values()}
        for trial in self._ot_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in mine:
                self._ot_study.tell(trial.number, state=TrialState.FAIL)


class ConfigSearch(MendedOptunaSearch):
    """Proposes configs of a `Space` until as many as wanted were tried, none of them twice.

    Parameters
    ----------
    storage, study
        The Optuna study, which may hold earlier trials and trials that wait, and where it is kept.
    sampler
        Makes a sampler from the number of configs asked for so far; what it has learnt is in the study.
        So a draw depends on the study alone, whether or not the search was interrupted.
    row
        Name of the search; a config is named after it and its number.
    space, objectives
        What may be tried and what is looked for.
    samples
        Configs to try in all.
    store
        Configs in it are answered from there.
    rungs
        Of ASHA: the epoch of the first one; eta, where the best of 1 / eta go on; and the last epoch, at
        which nothing is left to stop. None for no early stopping.
    """

    step = "epoch"

    def __init__(
        self,
        storage: BaseStorage,
        study: Study,
        sampler: Callable[[int], BaseSampler],
        row: str,
        space: Space,
        objectives: Sequence[Objective],
        samples: int,
        store: Store,
        rungs: tuple[int, int, int] | None,
    ) -> None:
        modes = ["max" if objective.sign < 0 else "min" for objective in objectives]
        names = [objective.metric for objective in objectives]
        single = len(objectives) == 1
        super().__init__(
            lambda trial: None,  # drawn in `suggest`
            metric=names[0] if single else names,
            mode=modes[0] if single else modes,
            storage=storage,
            study_name=study.study_name,
        )
        self._make_sampler, self._row, self._samples = sampler, row, samples
        self._farm_space, self._objectives, self._store = space, tuple(objectives), store
        self._used_up = False
        self._stops, self._last_epoch = rungs is not None, 0
        if rungs is not None:
            first, eta, self._last_epoch = rungs
            self._ot_study.pruner = SuccessiveHalvingPruner(first, eta)
        self.trials: dict[str, tuple[Any, ...]] = {}  # of each config that is being tried, by Tune's name

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its searchers; this one goes on from the study instead

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is on disk."""

    def stopped(self, trial_id: str) -> bool:
        """Say whether a trial was stopped early."""
        return bool(self._on_disk(self._ot_trials[trial_id]).state == TrialState.PRUNED)

    def ended(self) -> bool:
        """Say whether all was tried, or the space is used up, and nothing is running."""
        running = self._ot_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return not running and (self._used_up or not left_of(self._ot_study, self._samples))

    def _asked(self) -> int:
        """Count what was asked for; what was interrupted has been, or will be, asked for again."""
        trials = self._ot_study.get_trials(deepcopy=False)
        return sum(t.state != TrialState.WAITING and t.user_attrs.get(KIND) != INTERRUPTED for t in trials)

    def suggest(self, trial_id: str) -> Any:
        """Give the next config that has to be run; what is known already is told at once."""
        for _ in range(REPEATS):
            if not left_of(self._ot_study, self._samples):
                return self.FINISHED
            self._ot_study.sampler = self._make_sampler(self._asked())
            trial = self._ot_study.ask()
            try:
                values = self._farm_space.draw(partial(_draw, trial))
                trials = self._farm_space.trials(f"{self._row}-{trial.number}", values)
            except UserError as error:
                trial.set_user_attr(ERROR, str(error))
                self._ot_study.tell(trial, state=TrialState.FAIL)
                continue
            signatures = [made.signature for made in trials]
            if self._repeated(trial, signatures) or self._recalled(trial, signatures):
                continue
            trial.set_user_attr(SIGNATURES, signatures)
            self._ot_trials[trial_id] = trial
            self.trials[trial_id] = trials
            return {"configs": [made.config.model_dump_json() for made in trials], "signatures": signatures}
        self._used_up = True
        return self.FINISHED

    def _repeated(self, trial: Trial, signatures: list[str]) -> bool:
        """Tell what is known of a config that this search has tried, or is trying."""
        earlier = [
            t
            for t in self._ot_study.get_trials(deepcopy=False)
            if t.user_attrs.get(SIGNATURES) == signatures and t.user_attrs.get(KIND) != INTERRUPTED
        ]
        if not earlier:
            return False
        trial.set_user_attr(KIND, REPEAT)
        state = earlier[0].state if earlier[0].state.is_finished() else TrialState.FAIL
        if state == TrialState.PRUNED and earlier[0].last_step is not None:
            trial.report(earlier[0].intermediate_values[earlier[0].last_step], earlier[0].last_step)
        self._ot_study.tell(trial, earlier[0].values if state == TrialState.COMPLETE else None, state=state)
        return True

    def _recalled(self, trial: Trial, signatures: list[str]) -> bool:
        """Tell the result of a config that is in the store, whoever ran it."""
        records = [record for s in signatures if (record := self._store.get(s)) is not None]
        values = scores(records, self._objectives)
        if len(records) < len(signatures) or not all(map(math.isfinite, values)):
            return False
        trial.set_user_attr(SIGNATURES, signatures)
        history = records[0].history
        if self._stops and history is not None:
            for epoch in history.epochs:
                trial.report(epoch.val_loss, epoch.epoch)
                trial.should_prune()  # takes its place on the rungs, which others are measured against
        self._ot_study.tell(trial, values)
        return True

    def _intermediate(self, result: dict[str, Any]) -> float | None:
        return result.get("val_loss") if self._stops else None

    def falls_behind(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take an intermediate result and say whether ASHA stops the trial on it."""
        if "epoch" not in result or not self._stops:
            return False
        self.on_trial_result(trial_id, result)
        behind = self._ot_trials[trial_id].should_prune()
        return behind and bool(result["epoch"] < self._last_epoch)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell how a trial ended; one that raised has failed."""
        complaint = (result or {}).get("error", "")
        if complaint and self._running(trial_id):
            self._ot_trials[trial_id].set_user_attr(ERROR, complaint)
        super().on_trial_complete(trial_id, result, error or bool(complaint))


class Asha(FIFOScheduler):  # type: ignore[misc]  # ray is not typed
    """Stops what falls behind, by rungs that are kept in the study.

    Tune's own ASHAScheduler forgets its rungs with the driver: after an interruption the first third of
    what comes would go on unmeasured.
    """

    def __init__(self, search: ConfigSearch) -> None:
        super().__init__()
        self._search = search

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or go on."""
        behind = self._search.falls_behind(trial.trial_id, result)
        decision: str = TrialScheduler.STOP if behind else TrialScheduler.CONTINUE
        return decision


def scores(records: Sequence[Record], objectives: Sequence[Objective]) -> list[float]:
    """Average each objective over the replicates of a config; NaN if there are none."""
    if not records:
        return [math.nan] * len(objectives)
    found = [[objective.of(r.metrics, r.levels[""]) for r in records] for objective in objectives]
    return [math.fsum(values) / len(values) for values in found]


def _draw(trial: Trial, key: str, space: Range) -> Any:
    wanted = distribution(space)
    if isinstance(wanted, CategoricalDistribution):
        return option(space, trial.suggest_categorical(key, wanted.choices))
    if isinstance(wanted, IntDistribution):
        return trial.suggest_int(key, wanted.low, wanted.high, log=wanted.log)
    assert isinstance(wanted, FloatDistribution)
    return trial.suggest_float(key, wanted.low, wanted.high, log=wanted.log)
