"""Generative study: what a model knows of many assets' days, as a density and as a source of new ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, model_validator

from farm.base.config import listed
from farm.base.errors import UserError
from farm.base.generative import (
    Covariance,
    Density,
    Factors,
    Imputer,
    LatentBound,
    LatentSpace,
    NoisyGradients,
    Regimes,
    ReturnWindows,
    WindowGenerator,
    returns_of,
)
from farm.base.model import Model
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Dataset, Floats, Forecast, Latents, Windows
from farm.data.panel import Panel
from farm.data.returns import hidden_entries, return_dataset, return_table
from farm.data.splits import Chronological
from farm.evaluation.covariance import covariance_scores, portfolio_scores
from farm.evaluation.generative import generative_scores
from farm.evaluation.latent import active_units, collapse, kl_per_dimension
from farm.evaluation.metric import measure, metric_name
from farm.evaluation.probes import imputation_causality, warned
from farm.evaluation.scores import Block, Evaluation, Fitted, Measured
from farm.studies.study import STUDIES, PanelStudy

BESIDE = {"hidden10": 0.1, "hidden50": 0.5}  # parts that are scored beside the ranked one
BOUND_SAMPLES = 64
GRADIENT_WINDOWS, GRADIENT_REPEATS = 64, 200
COVARIANCE_WINDOWS = 4000  # that stand for the covariance of a generator which states none
WALK = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
TEST_BLOCK = 2  # its number among the blocks, and so the seed of its mask
SEED = 0  # of everything that an evaluation draws


@component(STUDIES)
@final
class GenerateStudy(PanelStudy):
    """Daily log returns of all assets together.

    Ranked is the imputation of entries hidden at random, as every model can do it. The likelihood, the
    covariance and the generated windows are scored beside it, of each model that has them.

    Parameters
    ----------
    market
        The index: the first asset; regimes may be read off it, and no portfolio holds it.
    assets
        The other assets.
    lookback
        Days of a window, T.
    hidden
        Share of the entries that are hidden in the ranked evaluation.
    split
        How the days are cut into blocks.
    recent
        How many of the last training days a model learns from; 0 for all of them.
    """

    name: Literal["generate"] = "generate"
    believable: ClassVar[float] = 0.95  # an index is nearly the sum of its members
    market: str
    assets: Annotated[tuple[str, ...], BeforeValidator(listed)]
    lookback: Annotated[int, Int(2, 250)] = 24
    hidden: Annotated[float, Float(0.05, 0.8)] = 0.3
    split: Chronological = Chronological()
    recent: Annotated[int, Int(0, 100_000)] = 0

    @model_validator(mode="after")
    def _several_and_each_once(self) -> GenerateStudy:
        if len(self.assets) < 2:
            raise UserError(
                f"got the assets {', '.join(self.assets) or 'none'} beside the market, expected at least 2:"
                " give more --tickers"
            )
        doubled = [name for name in self.tickers() if self.tickers().count(name) > 1]
        if doubled:
            raise UserError(
                f"asset {doubled[0]} is there twice among {', '.join(self.tickers())}: expected the market"
                " and the assets, each once: correct --tickers or --market"
            )
        return self

    def tickers(self) -> tuple[str, ...]:
        """Name the market and the assets."""
        return (self.market, *self.assets)

    def cut(self, panel: Panel) -> Dataset:
        """Cut the windows; see `StudyConfig.dataset`."""
        table = return_table({name: panel.bars[name] for name in self.tickers()})
        days = table.index.to_numpy().astype("datetime64[D]")
        return return_dataset(
            table.to_numpy(), days, self.tickers(), self.lookback, self.split, self.hidden, self.recent
        )

    def evaluate(self, fitted: Fitted) -> Evaluation:
        """Fill hidden entries of the blocks, and keep what pictures need of whatever else the model can do.

        Likelihoods are of scaled returns, in nats a day: that of unscaled ones is lower by the same
        number for every model. Metrics, by section: ``test/...`` and ``test/hidden10/...`` of
        imputations; ``density``; ``bound``; ``covariance`` and ``portfolio``; ``generated``; ``factors``.
        """
        model = fitted.model
        blocks = {"val": self.forecast(model, fitted.data.val)}
        test = returns_of(fitted.test)
        blocks["test"] = self.forecast(model, test)
        for part, share in BESIDE.items():
            mask = hidden_entries(test.mask.shape, share, seed=TEST_BLOCK)
            blocks[f"test/{part}"] = _imputed(test, mask, _imputer(model).forecast_hidden(test, mask))
        arrays = _describe(model, test)
        if isinstance(model, Density):
            arrays["density"] = model.log_likelihood(test.rows, test.first)
        if (covariance := _covariance(fitted)) is not None:
            arrays |= {"covariance": covariance, "portfolio": _portfolio(fitted, covariance)[1]}
        if isinstance(model, WindowGenerator):
            arrays["generated"] = _drawn(fitted)[:64].astype(np.float32)
        if isinstance(model, LatentSpace):
            arrays |= _latent_arrays(model, _latents(fitted), test)
        return Evaluation(blocks, arrays=arrays)

    def forecast(self, model: Model, windows: Windows) -> Block:
        """Fill the entries that a block hides."""
        block = returns_of(windows)
        return _imputed(block, block.mask, _imputer(model).predict(block))

    def probe(self, fitted: Fitted, evaluation: Evaluation) -> Measured:
        """Disturb what the model may not see."""
        seen = imputation_causality(_imputer(fitted.model), returns_of(fitted.test))
        ranked = evaluation.test
        return warned(ranked.forecasts[""], ranked.actual, seen, self.believable, {})


def _imputer(model: Model) -> Imputer:
    if not isinstance(model, Imputer):
        raise TypeError(f"{type(model).__name__} fills no hidden entries, which ranks this study's models")
    return model


def _imputed(windows: ReturnWindows, mask: npt.NDArray[np.bool_], forecast: Forecast) -> Block:
    """Lay out the entries that a mask hides, day by day."""
    when, asset = np.nonzero(mask)
    items = tuple(windows.features[a] for a in asset)
    days = windows.days[windows.first :][when]
    return Block(days, windows.hidden_returns(mask), {"": forecast}, items)


@measure(
    "block", study="generate", requires=Density, section="density", blocks=("train", "val", "test"),
    directions={"log_likelihood": "max"},
)  # fmt: skip
def likelihood(fitted: Fitted, windows: Windows) -> dict[str, float]:
    """Compute the mean exact log likelihood of a day, in nats."""
    block = returns_of(windows)
    assert isinstance(fitted.model, Density)
    return {"log_likelihood": float(fitted.model.log_likelihood(block.rows, block.first).mean())}


@measure(
    "block", study="generate", requires=LatentBound, section="bound", blocks=("val", "test"),
    directions={"elbo": "max", "importance_weighted": "max"},
)  # fmt: skip
def bound(fitted: Fitted, windows: Windows) -> dict[str, float]:
    """Compute bounds of the log likelihood of a day, in nats."""
    block = returns_of(windows)
    assert isinstance(fitted.model, LatentBound)
    days = block.x.shape[1]
    elbo, weighted = fitted.model.bound(block.apart, BOUND_SAMPLES, SEED)
    return {
        "elbo": float(elbo.mean() / days),
        "importance_weighted": float(weighted.mean() / days),
        # A lower estimate of the gap, as the likelihood is not below the weighted bound.
        "gap": float((weighted - elbo).mean() / days),
    }


@measure("model", study="generate")
def covariance(fitted: Fitted, evaluation: Evaluation) -> dict[str, float]:
    """Score the covariance, and the portfolio of the assets beside the market that is built on it."""
    found = _covariance(fitted)
    if found is None:
        return {}
    scores = covariance_scores(found, returns_of(fitted.test).block)
    values = {metric_name("covariance", "", name): value for name, value in scores.items()}
    return values | {f"portfolio/{name}": value for name, value in _portfolio(fitted, found)[0].items()}


@measure("model", study="generate", requires=WindowGenerator)
def generated(fitted: Fitted, evaluation: Evaluation) -> dict[str, float]:
    """Score as many generated windows as the test block has, beside it."""
    train, test = fitted.data.train, fitted.test
    found = generative_scores(test.x, _drawn(fitted), train.x, SEED)
    return {metric_name("generated", "", name): value for name, value in found.items()}


@measure("model", study="generate", requires=Factors)
def factors(fitted: Fitted, evaluation: Evaluation) -> dict[str, float]:
    """Count the factors, and compute the share of each asset's variance that they explain."""
    assert isinstance(fitted.model, Factors)
    loadings = fitted.model.loadings()
    systematic = (loadings**2).sum(axis=1)
    share = systematic / (systematic + fitted.model.idiosyncratic())
    names = [f"factors/systematic_{name}" for name in fitted.test.features]
    return {"factors/count": float(loadings.shape[1])} | dict(zip(names, map(float, share), strict=True))


@measure("model", study="generate", requires=LatentSpace)
def latent(fitted: Fitted, evaluation: Evaluation) -> Measured:
    """Measure how far the latents of the test windows are from their prior."""
    found = _latents(fitted)
    values = {
        "latent/kl": float(kl_per_dimension(found).sum()),
        "latent/active_units": float(active_units(found.mean)),
    }
    return Measured(values, {"latent collapsed": collapse(found)})


@measure("model", study="generate", requires=NoisyGradients)
def gradient(fitted: Fitted, evaluation: Evaluation) -> dict[str, float]:
    """Compute the variance of the estimators of the gradient."""
    assert isinstance(fitted.model, NoisyGradients)
    moments = fitted.model.gradient_moments(fitted.data.train.x[:GRADIENT_WINDOWS], GRADIENT_REPEATS, SEED)
    return {f"gradient/{name}_variance": float(found.variance.sum()) for name, found in moments.items()}


def _covariance(fitted: Fitted) -> Floats | None:
    """Return the covariance of scaled returns, (A, A); None of a model that has none."""
    model = fitted.model
    if isinstance(model, Covariance):
        return fitted.once("covariance", model.covariance)
    if isinstance(model, WindowGenerator):
        drawn = fitted.once("drawn for the covariance", lambda: model.draw(COVARIANCE_WINDOWS, SEED + 1))
        return np.asarray(np.cov(drawn.reshape(-1, drawn.shape[2]), rowvar=False))
    return None


def _portfolio(fitted: Fitted, covariance: Floats) -> tuple[dict[str, float], Floats]:
    """Score the portfolio of the assets beside the market; return its daily returns too."""
    test = returns_of(fitted.test)
    unscaled = (covariance * np.outer(test.scale, test.scale))[1:, 1:]
    return portfolio_scores(unscaled, (test.block * test.scale + test.mean)[:, 1:])


def _drawn(fitted: Fitted) -> Floats:
    """Generate as many windows as the test block has."""
    model = fitted.model
    assert isinstance(model, WindowGenerator)
    return fitted.once("drawn", lambda: model.draw(len(fitted.test.x), SEED))


def _latents(fitted: Fitted) -> Latents:
    """Encode the windows of the test block."""
    model = fitted.model
    assert isinstance(model, LatentSpace)
    return fitted.once("latents", lambda: model.encode(fitted.test.x, SEED))


def _describe(model: Model, test: ReturnWindows) -> dict[str, Floats]:
    """Keep what pictures need of a model's inside."""
    arrays: dict[str, Floats] = {}
    if isinstance(model, Factors):
        arrays |= {"loadings": model.loadings(), "idiosyncratic": model.idiosyncratic()}
    if isinstance(model, Regimes):
        # Over the whole record; what lies before the test block is where its laws were learnt.
        arrays["regimes"] = model.probabilities(test.rows, 0)
        arrays["regime_days"] = test.days.astype("datetime64[D]").astype(np.int64)
        arrays["market"] = test.rows[:, 0] * test.scale[0] + test.mean[0]
    return arrays


def _latent_arrays(model: LatentSpace, latents: Latents, test: ReturnWindows) -> dict[str, Floats]:
    """Keep the latents of the test windows, walks along them, and one window taken apart.

    ``latent/walk`` is what is decoded, (D, W, T, A), where one dimension goes through `WALK` and the
    others stand at the mean of the posterior means; ``latent/spread``, (D, W), is the standard deviation
    of a return about that, on average. The window is the wildest one.
    """
    dimensions = latents.mean.shape[1]
    places = np.tile(latents.mean.mean(axis=0), (dimensions, len(WALK), 1))
    places[np.arange(dimensions), :, np.arange(dimensions)] = WALK
    walk, spread = (f(places.reshape(-1, dimensions)) for f in (model.decode, model.spread))
    wildest = int(np.argmax((test.x**2).mean(axis=(1, 2))))
    z = latents.mean[wildest : wildest + 1]
    parts = {"real": test.x[wildest], "decoded": model.decode(z)[0]}
    parts |= {f"part/{name}": part[0] for name, part in model.components(z).items()}
    arrays = {
        "latent/mean": latents.mean,
        "latent/logvar": latents.logvar,
        "latent/sample": latents.sample,
        "latent/walk": walk.reshape(dimensions, len(WALK), *walk.shape[1:]),
        "latent/spread": spread.mean(axis=(1, 2)).reshape(dimensions, len(WALK)),
    }
    return arrays | {f"window/{name}": value for name, value in parts.items()}
