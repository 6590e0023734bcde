"""Generative study: what a model knows of many assets' days, as a density and as a source of new ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import numpy as np
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
from farm.base.types import Dataset, Floats, Latents
from farm.data.panel import Panel
from farm.data.returns import hidden_entries, return_dataset, return_table
from farm.data.splits import Chronological
from farm.evaluation.covariance import covariance_scores, portfolio_scores
from farm.evaluation.generative import generative_scores
from farm.evaluation.latent import active_units, collapse, kl_per_dimension
from farm.evaluation.metric import evaluate, metric_name
from farm.evaluation.probes import imputation_causality, told
from farm.studies.study import STUDIES, Evaluation, PanelStudy

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

    VERSION = 2  # 2: a probe takes no rounding for a look ahead

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

    def evaluate(self, model: Model, data: Dataset) -> Evaluation:
        """Score the test block: the ranked imputation, and whatever else the model can do.

        Likelihoods are of scaled returns, in nats a day: that of unscaled ones is lower by the same
        number for every model. Metrics, by section: ``test/...`` and ``test/hidden10/...`` of
        imputations; ``density``; ``bound``; ``covariance`` and ``portfolio``; ``generated``; ``factors``.
        """
        if not isinstance(model, Imputer):
            raise TypeError(
                f"{type(model).__name__} fills no hidden entries, which ranks this study's models"
            )
        val, train = returns_of(data.val), returns_of(data.train)
        scores = evaluate(model.predict(val), val.hidden_returns(val.mask), block="val")
        if isinstance(model, Density):
            scores["density/train"] = float(model.log_likelihood(train.rows, train.first).mean())
            scores["density/val"] = float(model.log_likelihood(val.rows, val.first).mean())
        test = returns_of(data.open_test())
        actual = test.hidden_returns(test.mask)
        forecasts = {"": model.predict(test)}
        scores |= evaluate(forecasts[""], actual)
        for part, share in BESIDE.items():
            mask = hidden_entries(test.mask.shape, share, seed=TEST_BLOCK)
            scores |= evaluate(model.forecast_hidden(test, mask), test.hidden_returns(mask), part=part)
        arrays = _describe(model, test)
        for described in (_density, _covariance, _generated):
            found, kept = described(model, train, test)
            scores |= found
            arrays |= kept
        if "loadings" in arrays:
            systematic = (arrays["loadings"] ** 2).sum(axis=1)
            share = systematic / (systematic + arrays["idiosyncratic"])
            scores["factors/count"] = float(arrays["loadings"].shape[1])
            scores |= {
                f"factors/systematic_{name}": float(v) for name, v in zip(test.features, share, strict=True)
            }
        probed, tags = told(forecasts[""], actual, imputation_causality(model, test), self.believable, {})
        scores |= probed
        if isinstance(model, LatentSpace):
            latents = model.encode(test.x, SEED)
            scores["latent/kl"] = float(kl_per_dimension(latents).sum())
            scores["latent/active_units"] = float(active_units(latents.mean))
            tags |= {"latent collapsed": reason} if (reason := collapse(latents)) else {}
            arrays |= _latent_arrays(model, latents, test)
        if isinstance(model, NoisyGradients):
            moments = model.gradient_moments(train.x[:GRADIENT_WINDOWS], GRADIENT_REPEATS, SEED)
            scores |= {
                f"gradient/{name}_variance": float(found.variance.sum()) for name, found in moments.items()
            }
        when, asset = np.nonzero(test.mask)
        return Evaluation(
            scores,
            test.days[test.first :][when],
            actual,
            forecasts,
            tags,
            arrays=arrays,
            items=tuple(test.features[a] for a in asset),
        )


Scored = tuple[dict[str, float], dict[str, Floats]]


def _density(model: Model, train: ReturnWindows, test: ReturnWindows) -> Scored:
    """Score the exact likelihood, or what bounds it, in nats a day."""
    scores: dict[str, float] = {}
    arrays: dict[str, Floats] = {}
    if isinstance(model, Density):
        arrays["density"] = model.log_likelihood(test.rows, test.first)
        scores["density/log_likelihood"] = float(arrays["density"].mean())
    if isinstance(model, LatentBound):
        days = test.x.shape[1]
        elbo, weighted = model.bound(test.apart, BOUND_SAMPLES, SEED)
        scores |= {
            "bound/elbo": float(elbo.mean() / days),
            "bound/importance_weighted": float(weighted.mean() / days),
            # A lower estimate of the gap, as the likelihood is not below the weighted bound.
            "bound/gap": float((weighted - elbo).mean() / days),
        }
    return scores, arrays


def _covariance(model: Model, train: ReturnWindows, test: ReturnWindows) -> Scored:
    """Score the covariance, and the portfolio of the assets beside the market that is built on it."""
    if isinstance(model, Covariance):
        covariance = model.covariance()
    elif isinstance(model, WindowGenerator):
        drawn = model.draw(COVARIANCE_WINDOWS, SEED + 1)
        covariance = np.cov(drawn.reshape(-1, drawn.shape[2]), rowvar=False)
    else:
        return {}, {}
    scores = {
        metric_name("covariance", "", k): v for k, v in covariance_scores(covariance, test.block).items()
    }
    unscaled = (covariance * np.outer(test.scale, test.scale))[1:, 1:]
    returns = (test.block * test.scale + test.mean)[:, 1:]
    found, daily = portfolio_scores(unscaled, returns)
    scores |= {f"portfolio/{name}": value for name, value in found.items()}
    return scores, {"covariance": covariance, "portfolio": daily}


def _generated(model: Model, train: ReturnWindows, test: ReturnWindows) -> Scored:
    """Score as many generated windows as the test block has, beside it."""
    if not isinstance(model, WindowGenerator):
        return {}, {}
    drawn = model.draw(len(test.x), SEED)
    found = generative_scores(test.x, drawn, train.x, SEED)
    return {metric_name("generated", "", name): value for name, value in found.items()}, {
        "generated": drawn[:64].astype(np.float32)
    }


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
