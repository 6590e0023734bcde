"""Searches by Optuna through Ray Tune, each a study on disk that any later run goes on with."""

from __future__ import annotations

import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.base.search_space import Resources
from farm.evaluation.scores import undefined
from farm.experiment import TrialConfig, require_number, run
from farm.space import Objective, SearchPlan, Space
from farm.store import Store
from farm.studies.study import Source
from farm.training.fit import Epoch
from farm.tuning.connection import cluster
from farm.tuning.engine import (
    STORED,
    WORKER_RETRIES,
    Event,
    Job,
    Kind,
    Outcome,
    bundle,
    complaint,
    relay,
    room,
)
from farm.tuning.studies import Attempt, attempts_of, enqueue_known, left_of, open_storage, open_study

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

POPULATION = 12  # of NSGA-II: three generations out of 40 configs
FIRST_RUNG, ETA = 10, 3  # of ASHA: epochs, and the share that goes on, 1 / ETA


def search(
    name: str,
    sampler: str,
    plan: SearchPlan,
    store: Store,
    source: Source,
    *,
    journal: Path,
    seed: int = 0,
    known: Sequence[Mapping[str, Any]] = (),
    rivals: Sequence[str] = (),
    on_event: Callable[[Event], None],
    concurrency: int | None = None,
    resources: Resources,
    address: str | None = None,
) -> tuple[tuple[Attempt, ...], bool]:
    """Go on with a search until as many configs as planned have been tried in all.

    A config whose trials are in the store is answered from there, and one that this search has tried
    before is not tried again. What a sampler draws depends on `seed` and on what was tried before, so
    a search of one config at a time repeats exactly, whether it was interrupted or not.

    Where the plan says so, ASHA (Li et al. 2020, MLSys 2, algorithm 2) stops a config whose validation
    loss falls behind: at epochs 10, 30, 90, or earlier ones of a short training, the best third goes
    on. That needs one objective and one replicate; with more, nothing is stopped.

    Parameters
    ----------
    name, journal
        Of the Optuna study, and the file that it is kept in.
    sampler
        One of `farm.space.SAMPLERS`.
    plan
        What may be tried, what is looked for, and how many configs are tried in all.
    store, source
        Where results go, and the data.
    seed
        Of the sampler.
    known
        Values of configs in the store, which the sampler is told at the start and which do not count.
    rivals
        Names of studies in the same file whose configs are not told, so that samplers compare.
    on_event, concurrency, resources, address
        See `farm.tuning.engine.execute`.

    Returns
    -------
    tuple
        All that was tried, in the order in which it was asked for, and whether that is all: not so
        after Ctrl-C.
    """
    storage = open_storage(journal)
    study = open_study(storage, name, plan.objectives)
    enqueue_known(storage, study, plan.space, known, rivals)
    if not left_of(study, plan.samples):
        return attempts_of(study, sampler, plan.space), True
    with cluster(address, concurrency), tempfile.TemporaryDirectory(prefix="farm-search-") as scratch:
        from ray import tune

        from farm.tuning.optuna_search import Asha, ConfigSearch

        stops = plan.stop_early and len(plan.objectives) == 1 and len(plan.space.bases) == 1
        proposer = ConfigSearch(
            storage,
            study,
            sampler=lambda asked: _sampler(sampler, seed, asked),
            row=sampler,
            space=plan.space,
            objectives=plan.objectives,
            samples=plan.samples,
            store=store,
            rungs=_rungs(plan.space) if stops else None,
        )

        def tell(kind: Kind, trial: Any, **details: Any) -> None:
            trials = proposer.trials[trial.trial_id]
            outcomes: list[Outcome] = []
            if kind == "failed" and proposer.stopped(trial.trial_id):
                kind, details = "stopped", {}
            elif kind in ("finished", "failed"):
                outcomes = [Outcome(each, details.get("error", "")) for each in trials]
            job = Job("trial", trials[0].name, trials[0].signature, trials[0].config)
            on_event(Event(kind, job, **details, outcomes=outcomes))

        parameters = {"source": source, "root": store.root, "objectives": plan.objectives}
        needs = bundle(resources, address)
        tune.Tuner(
            tune.with_resources(tune.with_parameters(_trainable, **parameters), needs),
            tune_config=tune.TuneConfig(
                search_alg=proposer,
                scheduler=Asha(proposer) if stops else None,
                num_samples=-1,
                max_concurrent_trials=concurrency or room(needs),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
                callbacks=[relay(tell)],
            ),
        ).fit()
    return attempts_of(study, sampler, plan.space), proposer.ended()


def _trainable(setting: dict[str, Any], source: Source, root: str, objectives: tuple[Objective, ...]) -> None:
    """Run the trials of one config in a worker, and report its objectives."""
    from ray import tune

    def report(epoch: Epoch) -> None:
        if len(setting["configs"]) == 1:  # an epoch of one of several replicates says little of the config
            tune.report({"epoch": epoch.epoch, "val_loss": epoch.val_loss})

    found: list[list[float]] = []
    try:
        for text, signature in zip(setting["configs"], setting["signatures"], strict=True):
            config = TrialConfig.model_validate_json(text)
            result = run(config, source, report=report)
            Store(root).put(signature, config, result)
            levels, lost = result.evaluation.test.forecasts[""].levels, undefined(result.scores)
            for objective in objectives:
                require_number(result.metrics, lost, objective.metric)
            found.append([objective.of(result.metrics, levels) for objective in objectives])
    except Exception as error:  # noqa: BLE001  (one trial's fault must not end the search)
        tune.report({"error": complaint(error)})
    else:
        means = np.mean(found, axis=0)
        tune.report({STORED: True} | {o.metric: float(m) for o, m in zip(objectives, means, strict=True)})


def _sampler(name: str, seed: int, asked: int) -> BaseSampler:
    """Make the sampler of the next config."""
    from optuna import samplers

    own = zlib.crc32(name.encode())  # samplers that begin at random must not begin alike
    drawn = int(np.random.SeedSequence([seed, own, asked]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some settings are marked as experimental
        if name == "tpe":
            return samplers.TPESampler(seed=drawn, multivariate=True, group=True)
        if name == "gp":
            return samplers.GPSampler(seed=drawn)
        if name == "nsga2":
            return samplers.NSGAIISampler(seed=drawn, population_size=POPULATION)
        return samplers.RandomSampler(seed=drawn)


def _rungs(space: Space) -> tuple[int, int, int]:
    """Give the first epoch at which ASHA compares, 10 or a third of a short training; eta; the last epoch."""
    base = next(iter(space.bases.values()))
    if base.curriculum is not None:
        epochs = sum(stage.phase.epochs for stage in base.stages())
    else:
        assert base.training is not None  # only a network reports epochs
        epochs = base.training.epochs
    return max(1, min(FIRST_RUNG, epochs // ETA)), ETA, epochs
