"""Optuna studies on disk: what a search has tried, whoever ran it and however it ended."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from farm.base.errors import StaleError
from farm.base.origin import FORMAT
from farm.base.search_space import Choice, Int, Range
from farm.space import Objective, Space
from farm.store import Store

FEWEST = 8  # complete configs that importances can be read off
# Why a trial of a study is not one of the search's own configs; its own have no kind.
KIND, KNOWN, REPEAT, INTERRUPTED = "farm.kind", "known", "repeat", "interrupted"
SIGNATURES, ERROR = "farm.signatures", "farm.error"
_STATES: dict[TrialState, Literal["complete", "stopped", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Attempt:
    """One config that a search has tried.

    Parameters
    ----------
    sampler, number
        Who proposed it, and its number in the sampler's Optuna study.
    state
        ``complete``; ``stopped`` early; ``failed``.
    known
        Whether another sweep had run it, and the sampler was told at the start.
    settings
        The searched values, by dotted key.
    scores
        The objectives, mean over replicates; empty unless complete.
    epochs
        Epochs that were reported.
    signatures
        Of its trials, one for each replicate; empty if the values did not go together.
    error
        Why it failed.
    """

    sampler: str
    number: int
    state: Literal["complete", "stopped", "failed"]
    known: bool
    settings: dict[str, Any]
    scores: tuple[float, ...]
    epochs: int
    signatures: tuple[str, ...]
    error: str = ""

    @property
    def row(self) -> str:
        """Name it."""
        return f"{self.sampler}-{self.number}"


def journal_of(store: Store, name: str, out: Path) -> Path:
    """Return where the studies of a sweep are: in its store, or among its results if that is elsewhere."""
    if "://" in store.root:
        return out / "studies.journal"
    return Path(store.root) / "studies" / f"{name}.journal"


def known_configs(store: Store, space: Space) -> list[dict[str, Any]]:
    """Give the searched values of every config of a space that is in the store on each replicate."""
    stored = store.configs()
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    for config in stored.values():
        values = space.values_of(config)
        if values is not None:
            signatures = tuple(trial.signature for trial in space.trials("", values))
            # Also with equal values, a result of an older version has another signature.
            if set(signatures) <= stored.keys():
                known[signatures] = values
    return [known[signatures] for signatures in sorted(known)]


def tried_so_far(journal: Path, name: str) -> int:
    """Count the configs that a search has tried; 0 if there is no such study."""
    if not journal.exists() or name not in optuna.get_all_study_names(open_storage(journal)):
        return 0
    return own_trials(optuna.load_study(study_name=name, storage=open_storage(journal)))


def open_storage(journal: Path) -> BaseStorage:
    """Open a journal file, or make it; a last line that was torn by a kill goes.

    Raises
    ------
    StaleError
        If another version of Farm wrote it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    for study in storage.get_all_studies():  # one without a trial may lack it, after a kill
        if study.user_attrs.get("format") != FORMAT and storage.get_n_trials(study._study_id):
            raise StaleError(f"journal {str(journal)!r}", "move it away to search anew")
    return storage


def open_study(storage: BaseStorage, name: str, objectives: Sequence[Objective]) -> Study:
    """Open a study, or make it; a config that a killed driver was trying comes again first."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["maximize" if objective.sign < 0 else "minimize" for objective in objectives],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of objectives are marked as experimental
        study.set_metric_names([objective.label for objective in objectives])
    if "format" not in study.user_attrs:
        study.set_user_attr("format", FORMAT)
    number_of = storage.get_study_id_from_name(name)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        kind = {KIND: trial.user_attrs[KIND]} if KIND in trial.user_attrs else None
        study.enqueue_trial(trial.params, user_attrs=kind)
        at = storage.get_trial_id_from_study_id_trial_number(number_of, trial.number)
        storage.set_trial_user_attr(at, KIND, INTERRUPTED)
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def left_of(study: Study, samples: int) -> bool:
    """Say whether there is more to ask for: own configs, or known ones that wait to be told."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return own_trials(study) < samples or any(t.user_attrs.get(KIND) == KNOWN for t in waiting)


def own_trials(study: Study) -> int:
    """Count the configs of a search itself, also those that are being tried."""
    trials = study.get_trials(deepcopy=False)
    return sum(t.state != TrialState.WAITING and KIND not in t.user_attrs for t in trials)


def enqueue_known(
    storage: BaseStorage,
    study: Study,
    space: Space,
    known: Sequence[Mapping[str, Any]],
    rivals: Sequence[str] = (),
) -> None:
    """Let the sampler hear first of configs in the store that neither it nor a rival study has tried."""
    trials = study.get_trials(deepcopy=False)
    waiting = [t.system_attrs.get("fixed_params") for t in trials]
    there = set(rivals) & set(optuna.get_all_study_names(storage))
    others = [
        trial
        for name in sorted(there)
        for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        if KIND not in trial.user_attrs
    ]
    tried = [t.user_attrs.get(SIGNATURES) for t in (*trials, *others)]
    for values in known:
        labels = {key: label(value) for key, value in values.items()}
        if [t.signature for t in space.trials("", values)] not in tried and labels not in waiting:
            study.enqueue_trial(labels, user_attrs={KIND: KNOWN})


def attempts_of(study: Study, sampler: str, space: Space) -> tuple[Attempt, ...]:
    """Read what was tried off a study: not what came twice or was interrupted."""
    ranges = {parameter.key: parameter.range for parameter in space.parameters}
    return tuple(
        Attempt(
            sampler=sampler,
            number=trial.number,
            state=_STATES[trial.state],
            known=trial.user_attrs.get(KIND) == KNOWN,
            settings={key: option(ranges[key], value) for key, value in trial.params.items()},
            scores=tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
            epochs=trial.last_step or 0,
            signatures=tuple(trial.user_attrs.get(SIGNATURES, ())),
            error=trial.user_attrs.get(ERROR, ""),
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state in _STATES and trial.user_attrs.get(KIND) not in (REPEAT, INTERRUPTED)
    )


def importances(attempts: Sequence[Attempt], space: Space, objective: int = 0) -> dict[str, float]:
    """Say which share of an objective's variance each searched key explains, by functional ANOVA.

    Hutter, Hoos & Leyton-Brown 2014, ICML 31: the variance of a random forest of the objective, split
    over its inputs. Optuna's default evaluator instead looks at what sets good configs apart, and gave
    a key without any effect 0.86.

    Parameters
    ----------
    attempts
        What was tried; complete ones count.
    space
        What was searched. A key that exists under a condition alone is left out.
    objective
        Its place among the objectives.

    Returns
    -------
    dict
        Shares by key, largest first; they sum to 1. Empty with fewer than 8 complete attempts, or
        where all have the same value.
    """
    done = [attempt for attempt in attempts if attempt.state == "complete"]
    if len(done) < FEWEST or len({attempt.scores[objective] for attempt in done}) == 1:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    shared = {p.key: distribution(p.range) for p in space.parameters if p.given is None}
    for attempt in done:
        study.add_trial(
            optuna.trial.create_trial(
                params={key: label(attempt.settings[key]) for key in shared},
                distributions=shared,
                value=attempt.scores[objective],
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def label(value: Any) -> Any:
    """Write an option as Optuna keeps it: what is no plain value, as JSON."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


def option(space: Range, kept: Any) -> Any:
    """Read a value as Optuna keeps it."""
    if not isinstance(space, Choice):
        return kept
    return next(value for value in space.options if label(value) == kept)


def distribution(space: Range) -> BaseDistribution:
    """Say a range in Optuna's words."""
    if isinstance(space, Choice):
        return CategoricalDistribution([label(value) for value in space.options])
    if isinstance(space, Int):
        return IntDistribution(space.low, space.high, log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)
