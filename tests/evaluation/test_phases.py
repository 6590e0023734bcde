"""Scores of a phase against a forecast, a rollout and a divergence computed the plain way."""

import numpy as np
import pytest
import torch

from farm.base.errors import UserError
from farm.evaluation.checklist import gates, hold, overall
from farm.evaluation.phases import phase_scores
from farm.training.curriculum import Autoregressive, MultiHorizon, TeacherForcing
from farm.training.fit import Epoch, History
from tests.surface_world import CONTEXT, network, world

TRAIN, VAL = slice(0, 70), slice(70, 120)


@pytest.fixture(scope="module")
def taught():
    days, inputs = world(120)
    return network(inputs, prior="learned"), days


def volatility(net, scaled: np.ndarray) -> np.ndarray:
    return np.exp(scaled[..., :25] * net.scale[:25].numpy() + net.mean[:25].numpy())


def forecast(net, context: torch.Tensor, horizon: int):
    with torch.no_grad():
        memory = net.remember(context)
        return net.decode(memory, net.prior(memory, horizon).mean)


def test_horizons_are_those_of_single_sequences(taught):
    net, days = taught
    phase = MultiHorizon(horizons=(1, 4, 7), weights=(1.0, 1.0, 1.0))
    scores = phase_scores(net, "phase 2", phase, days[TRAIN], days[VAL])
    block, errors, outside = days[VAL], [], []
    for first in range(len(block) - CONTEXT - 7 + 1):
        context = torch.from_numpy(block[first : first + CONTEXT])[None]
        ahead = forecast(net, context, 7).surface[0].numpy()
        truth = block[first + CONTEXT : first + CONTEXT + 7, :25]
        errors.append(volatility(net, ahead[..., 1]) - volatility(net, truth))
        outside.append((truth < ahead[..., 0]) | (truth > ahead[..., 2]))
    for horizon in (1, 4, 7):
        expected = np.sqrt(np.mean(np.square(errors)[:, :horizon]))
        assert scores[f"phase2/val/rmse_h{horizon}"] == pytest.approx(expected, rel=1e-4)
        expected = np.mean(np.array(outside)[:, :horizon])
        assert scores[f"phase2/val/violations_h{horizon}"] == pytest.approx(expected)
    assert scores["phase2/val/rmse"] == scores["phase2/val/rmse_h7"]
    assert scores["phase2/val/violations"] == max(scores[f"phase2/val/violations_h{h}"] for h in (1, 4, 7))
    assert overall(hold(scores, gates("phase 2"))) in ("pass", "refine")


def test_passes_are_those_of_single_rollouts(taught):
    net, days = taught
    phase = Autoregressive(horizon=5, offsets=(3, 5), steps=3)
    scores = phase_scores(net, "phase 3", phase, days[TRAIN], days[VAL])
    block, reached = days[VAL], 2 * 3 + 5
    by_offset = {3: [], 5: []}
    by_pass, everything = [[], [], []], []
    for first in range(len(block) - CONTEXT - 15 + 1):
        truth = volatility(net, block[first + CONTEXT : first + CONTEXT + 15])
        for offset in (3, 5):
            timeline = torch.from_numpy(block[first : first + CONTEXT])
            made = [[] for _ in range(15)]
            for number in range(3):
                start = number * offset
                ahead = forecast(net, timeline[None, start : start + CONTEXT], 5)
                with torch.no_grad():
                    new = net.median_days(ahead)[0]
                timeline = torch.cat([timeline[: start + CONTEXT], new])
                for day, one in enumerate(volatility(net, ahead.surface[0, ..., 1].numpy())):
                    made[start + day].append(one)
                    if offset == 5:
                        by_pass[number].append(one - truth[start + day])
            means = [np.mean(one, axis=0) - truth[day] for day, one in enumerate(made) if one]
            by_offset[offset].append(means[:reached])
            if offset == 5:
                everything.append(means)
    rmse = {offset: np.sqrt(np.mean(np.square(found))) for offset, found in by_offset.items()}
    for offset, expected in rmse.items():
        assert scores[f"phase3/val/rmse_offset{offset}"] == pytest.approx(expected, rel=1e-4)
    assert scores["phase3/val/offset_gap"] == pytest.approx(
        max(rmse.values()) / min(rmse.values()) - 1, abs=1e-4
    )
    passes = [np.sqrt(np.mean(np.square(found))) for found in by_pass]
    assert scores["phase3/val/pass2_rmse"] == pytest.approx(passes[1], rel=1e-4)
    assert scores["phase3/val/degradation"] == pytest.approx(passes[2] / passes[0], rel=1e-4)
    assert scores["phase3/val/rmse"] == pytest.approx(np.sqrt(np.mean(np.square(everything))), rel=1e-4)


def test_the_divergence_is_that_of_two_normals(taught):
    net, days = taught
    scores = phase_scores(net, "phase 1", TeacherForcing(), days[TRAIN], days[VAL])
    runs = torch.from_numpy(np.stack([days[VAL][i : i + CONTEXT + 1] for i in range(50 - CONTEXT)]))
    with torch.no_grad():
        q, p = net.posterior(runs), net.prior(net.remember(runs[:, :CONTEXT]), 1)
        pair = [torch.distributions.Normal(g.mean, (0.5 * g.log_variance).exp()) for g in (q, p)]
        expected = torch.distributions.kl_divergence(*pair).sum(dim=-1).mean()
    assert scores["phase1/val/kl"] == pytest.approx(float(expected), rel=1e-4)


def test_the_network_is_left_as_it_was_and_nothing_is_drawn(taught):
    net, days = taught
    net.train()
    state = torch.random.get_rng_state()
    first = phase_scores(net, "phase 1", TeacherForcing(), days[TRAIN], days[VAL])
    assert net.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert first == phase_scores(net, "phase 1", TeacherForcing(), days[TRAIN], days[VAL])


def test_the_rise_of_the_loss_and_a_block_that_is_too_short(taught):
    net, days = taught
    history = History(tuple(Epoch(i, 1.0, loss, 0.0) for i, loss in enumerate((3.0, 2.0, 2.5), 1)), 2)
    scores = phase_scores(net, "phase 1", TeacherForcing(), days[TRAIN], days[VAL], history)
    assert scores["phase1/val/loss_rise"] == pytest.approx(0.25)
    assert scores["phase1/epochs"] == 3
    with pytest.raises(UserError, match="phase 3, val: got 50 days, expected at least 66"):
        phase_scores(net, "phase 3", Autoregressive(horizon=20, offsets=(20,)), days, days[VAL])
