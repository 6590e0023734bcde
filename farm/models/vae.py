"""Variational autoencoder of a day's cross-section, with either gradient estimator.

References
----------
.. [1] Kingma and Welling (2014), Auto-encoding variational Bayes, ICLR.
.. [2] Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement
   learning, Machine Learning 8.
.. [3] Kool, van Hoof and Welling (2019), Buy 4 REINFORCE samples, get a baseline for free!, ICLR workshop
   on deep reinforcement learning meets structured prediction.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, final

import torch
from jaxtyping import Float as Shaped
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from farm.base.config import listed
from farm.base.errors import UserError
from farm.base.generative import GradientMoments, NoisyGradients
from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Choice, Int
from farm.base.types import Floats, Inputs
from farm.models.objectives import gaussian_kl
from farm.models.variational import Gaussian, VariationalConfig, VariationalNetwork

Estimator = Literal["reparameterised", "score_function", "score_function_plain"]


@component(MODELS)
class VAEConfig(VariationalConfig):
    """Config of `VAE`.

    Parameters
    ----------
    hidden_sizes
        Widths of the encoder's hidden layers, and in reverse of the decoder's. Empty for a linear model,
        which is factor analysis with an amortised posterior.
    gradient
        How the gradient of the encoder is estimated: through the draws (``reparameterised`` [1]_), or
        from the score of the posterior (``score_function``, REINFORCE [2]_), each draw measured
        against the mean of the others, which keeps it unbiased [3]_; needs at least 2 draws.
    """

    name: Literal["vae"] = "vae"
    hidden_sizes: Annotated[
        tuple[Annotated[int, Int(1, 1024, log=True)], ...], BeforeValidator(listed), Field(max_length=8)
    ] = (64,)
    gradient: Annotated[
        Literal["reparameterised", "score_function"], Choice(("reparameterised", "score_function"))
    ] = "reparameterised"

    @model_validator(mode="after")
    def _enough_draws(self) -> VAEConfig:
        if self.gradient == "score_function" and self.draws < 2:
            raise UserError(
                f"model vae: gradient=score_function measures a draw against others, got draws={self.draws},"
                " expected at least 2: set draws=8"
            )
        return self

    def build(self, inputs: Inputs) -> VAE:
        """Make the untrained network."""
        return VAE(self, inputs)


@final
class VAE(VariationalNetwork, NoisyGradients):
    """VAE of single days: x is one day's scaled returns of A assets, days are independent.

    Parameters
    ----------
    config
        Sizes and weights.
    inputs
        The windows, of which each last day is learnt from.
    """

    def __init__(self, config: VAEConfig, inputs: Inputs) -> None:
        super().__init__(config, inputs, days=1)
        self.config = config
        widths = (self.assets, *config.hidden_sizes)
        self.encoder = _dense((*widths, 2 * config.latent_dim))
        self.decoder = _dense((config.latent_dim, *reversed(config.hidden_sizes), self.outputs))

    def parameters_of_posterior(self, x: Shaped[Tensor, "B T A"]) -> Shaped[Tensor, "B E"]:
        """Encode days; see `VariationalNetwork`."""
        parameters: Tensor = self.encoder(x.squeeze(1))
        return parameters

    def parameters_of_output(self, z: Shaped[Tensor, "B D"]) -> Shaped[Tensor, "B T O"]:
        """Decode days; see `VariationalNetwork`."""
        output: Tensor = self.decoder(z)
        return output.unsqueeze(1)

    def expected_fit(
        self, x: Shaped[Tensor, "B T A"], posterior: Gaussian, noise: Shaped[Tensor, "S B D"]
    ) -> Shaped[Tensor, " B"]:
        """Estimate E_q log p(x | z) with the gradient of the config's estimator."""
        return self._fit_by(self.config.gradient, x, posterior, noise)

    def _fit_by(self, estimator: Estimator, x: Tensor, posterior: Gaussian, noise: Tensor) -> Tensor:
        if estimator == "reparameterised":
            return super().expected_fit(x, posterior, noise)
        z = posterior.draw(noise).detach()
        fit = self.likelihood(z).log_density(x).sum(dim=(-2, -1))
        gain = fit.detach()
        if estimator == "score_function":
            gain = (gain - gain.mean(dim=0)) * (len(z) / (len(z) - 1))  # against the mean of the others
        score = posterior.log_density(z).sum(dim=-1)
        # The second term is zero, and its gradient is that of the expectation.
        return (fit + gain * (score - score.detach())).mean(dim=0)

    def gradient_moments(self, windows: Floats, repeats: int, seed: int) -> dict[str, GradientMoments]:
        """Measure the noise of each estimator of the encoder's gradient; see `NoisyGradients`.

        The score function is measured with its baseline and, as ``score_function_plain``, without.
        All use the same draws, as many as in training and at least 2. The gradient is that of the loss.
        """
        x = self._tensor(windows[:, -1:])
        weights = list(self.encoder.parameters())
        draws = max(self.config.draws, 2)
        moments: dict[str, GradientMoments] = {}
        names: tuple[Estimator, ...] = ("reparameterised", "score_function", "score_function_plain")
        for name in names:
            source = torch.Generator(x.device).manual_seed(seed)
            found = []
            for _ in range(repeats):
                posterior = self.posterior(x)
                noise = torch.randn(
                    draws, *posterior.mean.shape, generator=source, device=x.device, dtype=x.dtype
                )
                zero = torch.zeros_like(posterior.mean)
                kl = gaussian_kl(*posterior, zero, zero).sum(dim=-1)
                loss = (kl - self._fit_by(name, x, posterior, noise)).mean() / self.assets
                found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
            each = torch.stack(found).double()
            moments[name] = GradientMoments(each.mean(dim=0).cpu().numpy(), each.var(dim=0).cpu().numpy())
        return moments


def _dense(widths: tuple[int, ...]) -> nn.Sequential:
    """Chain linear layers, with a smooth rectifier between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.GELU(), nn.Linear(a, b)]
    return nn.Sequential(*layers[1:])
