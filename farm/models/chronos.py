"""Chronos, a family of language models of time series, used as they come."""

from __future__ import annotations

import logging
import warnings
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field

from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.types import RISK_LEVELS, Floats, Inputs
from farm.models.pretrained import Pretrained, PretrainedConfig, Weights


@component(MODELS)
class ChronosConfig(PretrainedConfig):
    """Config of `Chronos`.

    Parameters
    ----------
    weights
        See `PretrainedConfig`. Of the family, ``amazon/chronos-t5-*`` draws sample paths and has all
        quantiles, ``amazon/chronos-bolt-*`` has those from 10 to 90 %, ``amazon/chronos-2`` those
        from 1 to 99 %.
    samples
        Sample paths behind the quantiles of a model that draws them.
    """

    module: ClassVar[str] = "chronos"
    package: ClassVar[str] = "chronos-forecasting"

    name: Literal["chronos"] = "chronos"
    weights: Weights = "amazon/chronos-bolt-small"
    samples: Annotated[int, Field(ge=20, le=10_000)] = 400

    def build(self, inputs: Inputs) -> Chronos:
        """Make the model; it reads the target's own past alone."""
        return Chronos(self)


@final
class Chronos(Pretrained):
    """Zero-shot forecasts of Chronos (Ansari et al. 2024, TMLR) and its successors Bolt and Chronos-2.

    The levels are those of `RISK_LEVELS` that the weights were taught: beyond them the package
    repeats the outermost quantile, which is no forecast. The paths of a model that draws them come
    from a fixed seed.
    """

    config: ChronosConfig

    def _pipeline(self) -> Any:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return _load(self.config.weights, self.config.revision, device)

    def load(self) -> tuple[float, ...]:
        """Load the weights; see `Pretrained.load`."""
        pipeline = self._pipeline()
        if _draws(pipeline):
            return RISK_LEVELS
        low, high = min(pipeline.quantiles), max(pipeline.quantiles)
        return tuple(level for level in RISK_LEVELS if low - 1e-9 <= level <= high + 1e-9)

    def quantiles(self, contexts: Floats) -> tuple[Floats, Floats]:
        """Forecast one day ahead; see `Pretrained.quantiles`."""
        pipeline, levels = self._pipeline(), list(self.load())
        drawn = {"num_samples": self.config.samples} if _draws(pipeline) else {}
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            # One list entry a series, without the days before it began.
            series = [row[~row.isnan()] for row in torch.from_numpy(contexts)]
            found, point = pipeline.predict_quantiles(
                series, prediction_length=1, quantile_levels=levels, **drawn
            )
        if isinstance(found, list):  # Chronos-2 gives one tensor a series, (1, 1, Q)
            found, point = torch.cat(found), torch.cat(point)
        # The package gives (B, 1, Q) and (B, 1), one day ahead.
        return point[:, 0].float().cpu().numpy(), found[:, 0].float().cpu().numpy()


def _draws(pipeline: Any) -> bool:
    """Say whether a pipeline draws sample paths."""
    return bool(pipeline.forecast_type.value == "samples")


@lru_cache(maxsize=2)
def _load(weights: str, revision: str, device: str) -> Any:
    """Load weights once a process; code that comes with them is never run."""
    from chronos import BaseChronosPipeline  # an extra
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    return BaseChronosPipeline.from_pretrained(
        weights, revision=revision, device_map=device, dtype=torch.float32, trust_remote_code=False
    )
