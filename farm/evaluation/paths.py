"""Scores of generated paths of surfaces against the days that came.

Errors are in volatility. What is scored is the change of a cell's volatility since the last known day
(so a random walk says 0, and a direction means something); the errors of a change and of the level are
the same. The point forecast is the mean over samples.

Shape letters: S samples, T days ahead, W maturities, M strikes, G = W * M cells, B = stretches * T * G.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from farm.base.surfaces import Paths, SurfaceInputs
from farm.base.types import Dates, Floats, Forecast, Ints
from farm.evaluation.arbitrage import static_arbitrage
from farm.evaluation.cointegration import Preservation, correlation_distance, preservation
from farm.evaluation.metric import measure, metric_name
from farm.evaluation.scores import UNSCORED, Block, Evaluation, Mask

LEVELS = (0.05, 0.5, 0.95)
LEADS = (1, 5, 21, 63, 126, 252)  # trading days ahead: a day, week, month, quarter, half a year, a year
CHUNK = 1_000_000  # sampled numbers that are sorted together
ENERGY_SAMPLES = 50  # the score takes their square, and its estimate does not depend on their number
ARBITRAGE_SAMPLES = 20
COINTEGRATION_SAMPLES = 3  # a test takes some 3 ms a cell and year


@dataclass(frozen=True)
class Stretch:
    """Some consecutive days as generated and as they came.

    Parameters
    ----------
    row
        Row of the first of them in the record.
    dates
        (T,).
    known
        The last day before them.
    last
        The surface of that day, (W, M).
    truth
        (T, W, M).
    paths
        Generated from what was known before `row`, at least T days.
    """

    row: int
    dates: Dates
    known: np.datetime64
    last: Floats
    truth: Floats
    paths: Paths

    @property
    def samples(self) -> Floats:
        """Give the generated volatilities of these days, (S, T, W, M)."""
        return self.paths.samples[:, : len(self.truth)]

    @property
    def rows(self) -> slice:
        """Give the rows of these days in the record."""
        return slice(self.row, self.row + len(self.truth))

    def cut(self, days: int) -> Stretch:
        """Keep the first days."""
        return replace(self, dates=self.dates[:days], truth=self.truth[:days])


@dataclass(frozen=True)
class FlatPaths:
    """Stretches as a flat forecast of changes, in the order stretch, day, cell.

    Parameters
    ----------
    forecast
        Mean and quantiles over the samples, B.
    truth
        Changes that came, (B,).
    crps
        Of each entry by its samples, (B,).
    noise
        Variance that the point forecast has as the mean of no more than S samples, (B,).
    dates, row, lead, cell
        Of each entry: its day, that day's row in the record, days since the last known one (from 1) and
        the number of its cell, (B,) each.
    starts
        The last known day of each entry, (B,).
    """

    forecast: Forecast
    truth: Floats
    crps: Floats
    noise: Floats
    dates: Dates
    row: Ints
    lead: Ints
    cell: Ints
    starts: Dates


def flatten(stretches: Sequence[Stretch]) -> FlatPaths:
    """Make one forecast of stretches; quantiles are those of the samples at `LEVELS`."""
    point, quantiles, truth, crps, noise, dates, row, lead, starts = [], [], [], [], [], [], [], [], []
    cells = stretches[0].last.size
    for stretch in stretches:
        samples, days = stretch.samples, len(stretch.truth)
        point.append((samples.mean(axis=0, dtype=np.float64) - stretch.last).ravel())
        sorted_out = np.quantile(samples, LEVELS, axis=0) - stretch.last
        quantiles.append(np.moveaxis(sorted_out, 0, -1).reshape(-1, len(LEVELS)))
        truth.append((stretch.truth - stretch.last).ravel())
        crps.append(fair_crps(samples, stretch.truth).ravel())
        noise.append((samples.var(axis=0, ddof=1, dtype=np.float64) / len(samples)).ravel())
        dates.append(np.repeat(stretch.dates, cells))
        row.append(np.repeat(np.arange(stretch.row, stretch.row + days), cells))
        lead.append(np.repeat(np.arange(1, days + 1), cells))
        starts.append(np.repeat(stretch.known, days * cells))
    every = np.concatenate(row)
    return FlatPaths(
        Forecast(np.concatenate(point), np.concatenate(quantiles).astype(np.float64), LEVELS),
        np.concatenate(truth),
        np.concatenate(crps),
        np.concatenate(noise),
        np.concatenate(dates),
        every,
        np.concatenate(lead),
        np.tile(np.arange(cells), len(every) // cells),
        np.concatenate(starts),
    )


def fair_crps(samples: Floats, truth: Floats) -> Floats:
    """Compute the continuous ranked probability score of each number from samples of it.

    The fair estimator, whose mean is the score of the law that the samples are drawn from, whatever their
    number (Ferro 2014, Quarterly Journal of the Royal Meteorological Society 140, 1917-1923):
    ``mean |x_i - y| - sum_ij |x_i - x_j| / (2 S (S - 1))``, the second sum by the ranks of the samples.

    Parameters
    ----------
    samples
        (S, T, ...), at least two of each.
    truth
        (T, ...).

    Returns
    -------
    Floats
        (T, ...).
    """
    count = len(samples)
    weights = (2 * np.arange(1, count + 1) - count - 1) / (count * (count - 1))
    score = np.empty(truth.shape)
    step = max(1, CHUNK // max(samples[:, :1].size, 1))
    for first in range(0, len(truth), step):
        some = slice(first, first + step)
        ranked = np.sort(samples[:, some].astype(np.float64), axis=0)
        near = np.abs(ranked - truth[some]).mean(axis=0)
        score[some] = near - np.tensordot(weights, ranked, axes=(0, 0))
    return score


def path_subsets(flat: FlatPaths, offset: int, regimes: Mapping[str, Mask]) -> dict[str, Mask]:
    """Mark the entries of each pass and of each regime, (B,) bool.

    Parameters
    ----------
    flat
        See `flatten`.
    offset
        Days of a pass: ``pass1`` are the days 1 to `offset` ahead. A path that knows no passes is cut
        alike.
    regimes
        Days of the record, (N,) bool, by name, such as ``crisis``.
    """
    number = (flat.lead - 1) // offset + 1
    passes = {f"pass{place}": number == place for place in range(1, int(number.max()) + 1)}
    return passes | {name: days[flat.row] for name, days in regimes.items()}


def path_block(
    flats: Mapping[str, FlatPaths], cells: Sequence[str] = (), subsets: Mapping[str, Mask] | None = None
) -> Block:
    """Lay flat paths of the same days out as a block.

    Parameters
    ----------
    flats
        By the name of the part; see `flatten`.
    cells
        Names of the cells; without them the samples have no items.
    subsets
        See `path_subsets`.
    """
    flat = next(iter(flats.values()))
    return Block(
        flat.dates,
        flat.truth,
        {part: one.forecast for part, one in flats.items()},
        tuple(cells[cell] for cell in flat.cell) if cells else (),
        flat.starts,
        flat.lead,
        dict(subsets or {}),
        sampled={
            "crps": {part: one.crps for part, one in flats.items()},
            "noise": {part: one.noise for part, one in flats.items()},
        },
    )


@measure("evaluation", study="surface")
def paths(evaluation: Evaluation) -> dict[str, float]:
    """Compute errors by horizon and by cell, and how much the third pass is worse than the first.

    Returns
    -------
    dict
        Of each part and block ``{block}/lead/21/rmse``, of the 21st day ahead alone, and where the samples
        have cells ``{block}/grid/1y 1/rmse``; ``{block}/monte_carlo_rmse``, what the RMSE has from the number
        of samples: infinitely many would have the root of the difference of both squares;
        ``{block}/degradation``, RMSE of pass 3 over that of pass 1; of half a year on validation days
        ``val/six-month/degradation``, of pass 2 over pass 1.
    """
    scores: dict[str, float] = {}

    def rmse(keep: Mask) -> float:
        return float(np.sqrt(squared[keep].mean()))

    for key, block in evaluation.blocks.items():
        name, _, beside = key.partition("/")
        if block.leads is None or name == UNSCORED:
            continue
        cells = np.array(block.items)
        for part, forecast in block.forecasts.items():
            if part in block.calibrated:
                continue
            middle = "/".join(filter(None, (beside, part)))
            stem = f"{name}/{middle}" if middle else name
            squared = (forecast.point - block.actual) ** 2
            for lead in LEADS:
                if lead <= block.leads.max():
                    scores[f"{stem}/lead/{lead}/rmse"] = rmse(block.leads == lead)
            noise = block.sampled["noise"][part]
            scores[f"{stem}/monte_carlo_rmse"] = float(np.sqrt(noise.mean(dtype=np.float64)))
            for cell in dict.fromkeys(block.items):
                scores[f"{stem}/grid/{cell}/rmse"] = rmse(cells == cell)
            passes = [block.subsets.get(f"pass{number}") for number in (1, 2, 3)]
            later = passes[1] if beside == "six-month" else passes[2]
            if (
                passes[0] is not None
                and later is not None
                and "pass1" in block.subsets_of.get(part, ("pass1",))
            ):
                scores[f"{stem}/degradation"] = rmse(later) / rmse(passes[0])
    return scores


def pass_scores(stretches: Sequence[Stretch], part: str, block: str = "test") -> dict[str, float]:
    """Score each pass of a rollout by what it generated itself, before overlaps were averaged.

    Returns
    -------
    dict
        ``{block}/{part}/pass1/rmse`` and so on, over the days of the pass that came; and
        ``{block}/{part}/degradation``, pass 3 over pass 1.
    """
    scores, rmses = {}, []
    for number in range(max(len(stretch.paths.passes) for stretch in stretches)):
        errors = []
        for stretch in stretches:
            if number >= len(stretch.paths.passes):
                continue
            start, samples = stretch.paths.passes[number]
            truth = stretch.truth[start : start + samples.shape[1]]
            mean = samples[:, : len(truth)].mean(axis=0, dtype=np.float64)
            errors.append((mean - truth).ravel())
        squared = np.concatenate(errors) ** 2
        if not len(squared):
            break
        rmses.append(float(np.sqrt(squared.mean())))
        scores[metric_name(block, f"{part}/pass{number + 1}", "rmse")] = rmses[-1]
    if len(rmses) >= 3:
        scores[metric_name(block, part, "degradation")] = rmses[2] / rmses[0]
    return scores


def energy_score(stretches: Sequence[Stretch]) -> float:
    """Give the mean energy score of a day's cells, in volatility.

    A proper score of the joint distribution of all cells (Gneiting & Raftery 2007, JASA 102, 359-378,
    eq. 23), from `ENERGY_SAMPLES` samples.
    """
    from scoringrules import es_ensemble  # a quarter of a second

    total, days = 0.0, 0
    for stretch in stretches:
        samples = stretch.samples[:ENERGY_SAMPLES].astype(np.float64)
        draws = samples.reshape(*samples.shape[:2], -1)
        truth = stretch.truth.reshape(len(stretch.truth), -1).astype(np.float64)
        for start in range(0, len(truth), 32):  # its memory grows with days and samples squared
            some = slice(start, start + 32)
            score = es_ensemble(truth[some], draws[:, some], m_axis=0, v_axis=-1, estimator="fair")
            total += float(np.sum(score))
        days += len(truth)
    return total / days


def arbitrage_scores(stretches: Sequence[Stretch], inputs: SurfaceInputs) -> dict[str, float]:
    """Hold generated surfaces, and the real ones of the same days, to the absence of static arbitrage.

    Returns
    -------
    dict
        ``arbitrage/generated/...`` and ``arbitrage/real/...``: ``surfaces``, the share with any
        violation; ``calendar_rate`` and ``butterfly_rate``, shares of violated checks;
        ``calendar_magnitude`` and ``butterfly_magnitude``, the mean depth of a violation. And
        ``arbitrage/excess``: by how much the larger of the generated rates exceeds the real one.
    """
    strikes = inputs.delta if inputs.log_moneyness is None else np.exp(inputs.log_moneyness)
    assert strikes is not None  # a grid is one or the other
    scores = {}
    for kind in ("generated", "real"):
        iv = np.concatenate(
            [
                s.truth[None] if kind == "real" else s.samples[:ARBITRAGE_SAMPLES].astype(np.float64)
                for s in stretches
            ],
            axis=1,
        )
        found = static_arbitrage(
            iv, inputs.maturities, strikes, "delta" if inputs.log_moneyness is None else "moneyness"
        ).summary()
        scores[f"arbitrage/{kind}/surfaces"] = found["surfaces"]
        for condition in ("calendar", "butterfly"):
            scores[f"arbitrage/{kind}/{condition}_rate"] = found[condition]
            scores[f"arbitrage/{kind}/{condition}_magnitude"] = found[f"{condition}_depth"]
    scores["arbitrage/excess"] = max(
        scores[f"arbitrage/generated/{name}_rate"] - scores[f"arbitrage/real/{name}_rate"]
        for name in ("calendar", "butterfly")
    )
    return scores


def cointegration_scores(
    stretches: Sequence[Stretch], volatility: Floats, regimes: Mapping[str, Mask], part: str = ""
) -> dict[str, float]:
    """Say how many cells are cointegrated with EWMA volatility, generated beside real.

    Over one year the test has little power: of the simulator's own cells it finds 54 to 69 %, though all
    follow volatility. So stretches that follow one another are also joined, end to end, and tested over
    all consecutive days of a regime; the generated series then steps back to the truth where a stretch
    begins.

    Parameters
    ----------
    stretches
        In order of time.
    volatility
        EWMA volatility of the real returns on each day of the record, (N,).
    regimes
        Days of the record, (N,) bool, by name; ``all`` days are a regime too.
    part
        Stands after ``cointegration``.

    Returns
    -------
    dict
        ``cointegration/generated/crisis``, ``cointegration/real/crisis`` and
        ``cointegration/kept/crisis`` of joined stretches, and the same of each by itself under
        ``cointegration/stretch``; the shares are means over samples. What has no run of days that is
        long enough to be tested is left out.
    """
    regimes = {**regimes, "all": np.ones(len(volatility), dtype=np.bool_)}
    tested = {"stretch": [_joined([stretch]) for stretch in stretches]}
    if all(one.rows.stop == other.row for one, other in pairwise(stretches)):
        tested[""] = [_joined(stretches)]
    scores = {}
    for name, runs in tested.items():
        found = [
            preservation(
                samples, truth, volatility[rows], {regime: mask[rows] for regime, mask in regimes.items()}
            )
            for samples, truth, rows in runs
        ]
        for regime in regimes:
            for kind, share in _weighted([one[regime] for one in found]).items():
                scores["/".join(filter(None, ("cointegration", part, name, kind, regime)))] = share
    return scores


def _joined(stretches: Sequence[Stretch]) -> tuple[Floats, Floats, Ints]:
    """Put stretches end to end: a few samples (S, T, W, M), truth (T, W, M) and rows (T,)."""
    return (
        np.concatenate([s.samples[:COINTEGRATION_SAMPLES] for s in stretches], axis=1),
        np.concatenate([s.truth for s in stretches]),
        np.concatenate([np.arange(s.rows.start, s.rows.stop) for s in stretches]),
    )


def _weighted(found: Iterable[Preservation]) -> dict[str, float]:
    """Average over runs by their days; nothing where none is long enough to be tested."""
    tested = [one for one in found if one.days]
    shares = {}
    for kind in ("generated", "real", "kept") if tested else ():
        values, days = np.array([(getattr(one, kind), one.days) for one in tested]).T
        known = ~np.isnan(values)
        if known.any():
            shares[kind] = float((values[known] * days[known]).sum() / days[known].sum())
    return shares


def correlation_score(stretches: Sequence[Stretch]) -> float:
    """Give the distance between the correlations of generated and real daily changes, 0 to 1.

    Mean over stretches, by days; see `farm.evaluation.cointegration.correlation_distance`.
    """
    long = [stretch for stretch in stretches if len(stretch.truth) >= 21]
    if not long:
        return float("nan")
    distances = [correlation_distance(s.samples[:ARBITRAGE_SAMPLES], s.truth) for s in long]
    return float(np.average(distances, weights=[len(s.truth) for s in long]))
