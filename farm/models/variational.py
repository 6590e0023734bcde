"""What the variational autoencoders of returns share: the bounds, imputation, generation.

A model says how a piece of the record, one day or a window of days, is encoded and decoded; all else
follows from that and is here.

Shape letters: B pieces, T days of a piece, A assets, D latent dimensions, S draws.

References
----------
.. [1] Kingma and Welling (2014), Auto-encoding variational Bayes, ICLR.
.. [2] Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, ICLR.
.. [3] Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation and approximate inference in deep
   generative models, ICML, section 4.3 and appendix F.
.. [4] Mattei and Frellsen (2019), MIWAE: deep generative modelling and imputation of incomplete data
   sets, ICML.
.. [5] Hesterberg (1995), Weighted average importance sampling and defensive mixture distributions,
   Technometrics 37(2).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from jaxtyping import Float as Shaped
from torch import Tensor, nn

from farm.base.generative import Imputation, Imputer, LatentBound, LatentSpace, WindowGenerator
from farm.base.search_space import Choice, Float, Int
from farm.base.types import Floats, Inputs, Latents
from farm.models.network import Batch, Network, NetworkConfig
from farm.models.objectives import gaussian_kl, warm_up

LOG_VARIANCE = (-10.0, 5.0)  # of a latent
# Of an observation, in scaled units. Below the floor, a standard deviation of 0.1, a density could rise
# without end on days on which a stale price does not move.
LOG_NOISE = (2 * math.log(0.1), 6.0)
VALIDATION_DRAWS = 16
PROPOSALS = 256  # days of draws behind an imputation, in pieces of one day or many, and no less than
FEWEST_PROPOSALS = 32
PRIOR_SHARE = 0.25  # of those draws, from the prior
FILLINGS = 3  # times that hidden entries are filled in before the latent is drawn
CHUNK = 16_384  # pieces times draws that are decoded together

Noise = Literal["scalar", "diagonal", "decoded"]


class VariationalConfig(NetworkConfig):
    """Config of a variational autoencoder of returns.

    Parameters
    ----------
    latent_dim
        Latent dimensions, D.
    noise
        What x scatters by around what is decoded: one variance for all (``scalar``), one for each
        asset (``diagonal``), or one that the decoder gives for each entry (``decoded``), so that calm
        and wild days differ. All are learnt.
    kl_weight
        Weight of the KL divergence in training; 1 is the evidence lower bound. The validation loss is
        that bound whatever the weight, so that configs compare.
    kl_warmup
        Epochs over which that weight rises from 0.
    draws
        Draws of the latent for each sample of a training step.
    """

    study: ClassVar[str] = "generate"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    latent_dim: Annotated[int, Int(1, 256, log=True)] = 10
    noise: Annotated[Noise, Choice(("scalar", "diagonal", "decoded"))] = "diagonal"
    kl_weight: Annotated[float, Float(0.0, 100.0)] = 1.0
    kl_warmup: Annotated[int, Int(0, 10_000)] = 0
    draws: Annotated[int, Int(1, 256, log=True)] = 1


class Gaussian(NamedTuple):
    """Mean and log variance of independent Gaussians, of one shape."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Give mean + deviation * noise."""
        return self.mean + noise * (0.5 * self.log_variance).exp()

    def log_density(self, x: Tensor) -> Tensor:
        """Give the log density of each entry, in nats."""
        square = (x - self.mean) ** 2 * (-self.log_variance).exp()
        return -0.5 * (square + self.log_variance + math.log(2 * math.pi))


_PRIOR = Gaussian(torch.zeros(()), torch.zeros(()))


class VariationalNetwork(Imputer, WindowGenerator, LatentBound, LatentSpace, Network):
    """A variational autoencoder [1]_: z ~ N(0, I), x | z ~ N(mean(z), diagonal variance).

    Parameters
    ----------
    config
        Sizes and weights.
    inputs
        The windows; all that is taught is in their scaled units.
    days
        Days of a piece, T: one, or a whole window.
    """

    def __init__(self, config: VariationalConfig, inputs: Inputs, days: int) -> None:
        super().__init__()
        self.settings = config
        self.assets, self.lookback, self.days = len(inputs.features), inputs.lookback, days
        self.kl_share = 1.0
        sizes = {"scalar": 1, "diagonal": self.assets, "decoded": 0}
        self.log_noise = nn.Parameter(torch.zeros(sizes[config.noise]))
        self.outputs = self.assets * (2 if config.noise == "decoded" else 1)

    @abstractmethod
    def parameters_of_posterior(self, x: Shaped[Tensor, "B T A"]) -> Shaped[Tensor, "B E"]:
        """Encode pieces: the means and the log variances of q(z | x), side by side, E = 2 D."""

    @abstractmethod
    def parameters_of_output(self, z: Shaped[Tensor, "B D"]) -> Shaped[Tensor, "B T O"]:
        """Decode latents: O = A means of x, or A means and A log variances (``noise=decoded``)."""

    def posterior(self, x: Shaped[Tensor, "B T A"]) -> Gaussian:
        """Give q(z | x), (B, D)."""
        mean, log_variance = self.parameters_of_posterior(x).chunk(2, dim=-1)
        return Gaussian(mean, log_variance.clamp(*LOG_VARIANCE))

    def likelihood(self, z: Shaped[Tensor, "*N D"]) -> Gaussian:
        """Give p(x | z), (..., T, A)."""
        output = self.parameters_of_output(z.reshape(-1, z.shape[-1]))
        output = output.reshape(*z.shape[:-1], *output.shape[1:])
        if self.settings.noise == "decoded":
            mean, log_variance = output.chunk(2, dim=-1)
        else:
            mean, log_variance = output, self.log_noise.expand(output.shape)
        return Gaussian(mean, log_variance.clamp(*LOG_NOISE))

    def begin_epoch(self, epoch: int) -> None:
        """Raise the KL weight, while it warms up."""
        self.kl_share = warm_up(epoch, self.settings.kl_warmup)

    def loss(self, batch: Batch) -> Tensor:
        """Give the negative bound of each window's last piece, in nats a day and asset.

        In evaluation mode the draws are the same at every call, and the weight of the KL is 1.
        """
        x = batch.x[:, -self.days :]
        shape = (len(x), self.settings.latent_dim)
        if self.training:
            noise, weight = x.new_empty(self.settings.draws, *shape).normal_(), self.settings.kl_weight
            weight *= self.kl_share
        else:
            noise, weight = _standard(VALIDATION_DRAWS, shape, 0, x.device), 1.0
        posterior = self.posterior(x)
        zero = torch.zeros_like(posterior.mean)
        kl = gaussian_kl(*posterior, zero, zero).sum(dim=-1)
        fit = self.expected_fit(x, posterior, noise)
        return (weight * kl - fit).mean() / (self.days * self.assets)

    def expected_fit(
        self, x: Shaped[Tensor, "B T A"], posterior: Gaussian, noise: Shaped[Tensor, "S B D"]
    ) -> Shaped[Tensor, " B"]:
        """Estimate E_q log p(x | z) with a gradient through the draws (reparameterised, [1]_)."""
        fit: Tensor = self.likelihood(posterior.draw(noise)).log_density(x).sum(dim=(-2, -1)).mean(dim=0)
        return fit

    def draw(self, count: int, seed: int) -> Floats:
        """Draw windows from the prior; see `WindowGenerator.draw`."""
        pieces = count * self.lookback // self.days
        device = self.log_noise.device
        source = torch.Generator(device).manual_seed(seed)
        parts = []
        with torch.no_grad():
            for start in range(0, pieces, CHUNK):
                size = min(CHUNK, pieces - start)
                z = torch.randn(size, self.settings.latent_dim, generator=source, device=device)
                x = self.likelihood(z)
                noise = torch.randn(x.mean.shape, generator=source, device=device)
                parts.append(_numpy(x.draw(noise)))
        return np.concatenate(parts).reshape(count, self.lookback, self.assets)

    def bound(self, windows: Floats, samples: int, seed: int) -> tuple[Floats, Floats]:
        """Bound the log density of windows; see `LatentBound.bound`.

        A window of several pieces is bounded piece by piece, which are independent given the model.
        """
        pieces = self._tensor(windows).reshape(-1, self.days, self.assets)
        source = torch.Generator(pieces.device).manual_seed(seed)
        elbo, weighted = [], []
        with torch.no_grad():
            for x in torch.split(pieces, max(CHUNK // samples, 1)):
                posterior = self.posterior(x)
                shape = (samples, *posterior.mean.shape)
                z = posterior.draw(torch.randn(shape, generator=source, device=x.device))
                everything = torch.ones_like(x, dtype=torch.bool)
                log_posterior = posterior.log_density(z).double().sum(dim=-1)
                log_weight = self._log_joint(z, x, everything) - log_posterior
                elbo.append(_numpy(log_weight.mean(dim=0)))
                weighted.append(_numpy(log_weight.logsumexp(dim=0) - math.log(samples)))
        first, second = (
            np.concatenate(parts).reshape(len(windows), -1).sum(axis=1) for parts in (elbo, weighted)
        )
        return first, second

    def _log_joint(
        self, z: Shaped[Tensor, "S B D"], x: Shaped[Tensor, "B T A"], visible: Bool[Tensor, "B T A"]
    ) -> Shaped[Tensor, "S B"]:
        """Give log p(visible x, z), in double precision."""
        fit = self.likelihood(z).log_density(x).where(visible, 0.0).double().sum(dim=(-2, -1))
        return fit + _PRIOR.log_density(z).double().sum(dim=-1)

    def impute(self, rows: Floats, first: int) -> Imputation:
        """Fill the hidden entries of a block; see `Imputer.impute`.

        Each day with hidden entries is the last of a piece, whose hidden entries are filled in with
        what is decoded from the mean of their latent, a few times over, as in [3]_ without its noise.
        The posterior of the piece so filled, widened as it has seen only the visible share of the
        entries, then proposes latents, and so does the prior, which keeps the weights bounded [5]_.
        Weighted by the density of the visible entries alone [4]_, their decoded means and variances give
        the moments of the hidden ones: exact in the limit of many proposals, however the piece was
        filled. The draws behind the proposals are the same for every day.
        """
        block = rows[first:]
        hidden = np.isnan(block)
        mean, sd = block.copy(), np.zeros(block.shape)
        late = np.flatnonzero(hidden.any(axis=1))
        early = np.full((self.days - 1, self.assets), np.nan)  # before the record nothing is seen
        padded = np.concatenate([early, rows])
        pieces = np.lib.stride_tricks.sliding_window_view(padded, self.days, axis=0).transpose(0, 2, 1)
        shape = (1, self.settings.latent_dim)
        proposals = max(PROPOSALS // self.days, FEWEST_PROPOSALS)
        noise = _standard(proposals, shape, 0, self.log_noise.device)
        step = max(CHUNK // proposals, 1)
        with torch.no_grad():
            for start in range(0, len(late), step):
                days = late[start : start + step]
                moments = self._conditional(self._tensor(pieces[first + days]), noise)
                for target, values in zip((mean, sd), moments, strict=True):
                    target[days] = np.where(hidden[days], _numpy(values), target[days])
        return Imputation(mean, sd)

    def _conditional(
        self, x: Shaped[Tensor, "B T A"], noise: Shaped[Tensor, "S 1 D"]
    ) -> tuple[Shaped[Tensor, "B A"], Shaped[Tensor, "B A"]]:
        """Give mean and standard deviation of the last day of pieces whose hidden entries are NaN."""
        visible = ~x.isnan()
        x = x.where(visible, 0.0)
        for _ in range(FILLINGS):
            x = x.where(visible, self.likelihood(self.posterior(x).mean).mean)
        posterior = self.posterior(x)
        # Of a linear model the precision above the prior's 1 grows with what is seen.
        share = visible.float().mean(dim=(-2, -1)).unsqueeze(-1)
        precision = (1 + share * ((-posterior.log_variance).exp() - 1)).clamp(min=0.1)
        proposal = Gaussian(posterior.mean, -precision.log())
        prior = round(PRIOR_SHARE * len(noise))
        z = torch.cat([noise[:prior].expand(-1, len(x), -1), proposal.draw(noise[prior:])])
        share_of_draws = prior / len(noise)
        log_proposal = torch.logaddexp(
            _PRIOR.log_density(z).double().sum(dim=-1) + math.log(share_of_draws),
            proposal.log_density(z).double().sum(dim=-1) + math.log1p(-share_of_draws),
        )
        weight = (self._log_joint(z, x, visible) - log_proposal).softmax(dim=0).unsqueeze(-1)
        last = self.likelihood(z)
        means, variances = last.mean[..., -1, :].double(), last.log_variance[..., -1, :].double().exp()
        mean = (weight * means).sum(dim=0)
        variance = (weight * (variances + (means - mean) ** 2)).sum(dim=0)
        return mean, variance.sqrt()

    def encode(self, windows: Floats, seed: int) -> Latents:
        """Encode the last piece of each window; see `LatentSpace.encode`."""
        with torch.no_grad():
            posterior = self.posterior(self._tensor(windows[:, -self.days :]))
            sample = posterior.draw(_standard(1, tuple(posterior.mean.shape), seed, posterior.mean.device)[0])
        return Latents(*(_numpy(value) for value in (sample, *posterior)))

    def decode(self, z: Floats) -> Floats:
        """Give the mean piece of each latent, (B, T, A); T is 1 where a piece is a day."""
        with torch.no_grad():
            return _numpy(self.likelihood(self._tensor(z)).mean)

    def spread(self, z: Floats) -> Floats:
        """Give the standard deviation of each entry; see `LatentSpace.spread`."""
        with torch.no_grad():
            return _numpy((0.5 * self.likelihood(self._tensor(z)).log_variance).exp())

    def components(self, z: Floats) -> dict[str, Floats]:
        """Give no parts; a network that has some says so."""
        return {}

    def _tensor(self, values: Floats) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.log_noise.device)


def _standard(draws: int, shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Draw standard normals that depend on the seed and the shape alone, (draws, ...)."""
    source = torch.Generator(device).manual_seed(seed)
    return torch.randn(draws, *shape, generator=source, device=device)


def _numpy(values: Tensor) -> npt.NDArray[np.float64]:
    return values.cpu().numpy().astype(np.float64)
