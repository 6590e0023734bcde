import math

import numpy as np
import pandas as pd
import pytest

from farm.evaluation.trading import HOLD, sign_strategy


def world(days=60, tickers=("A", "B"), models=("m", "n"), seeds=2, seed=0, missing=0):
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=days)
    rows = []
    for ticker in tickers:
        actual = rng.normal(0.001, 0.02, days)
        for model in models:
            for number in range(seeds):
                predicted = rng.normal(0, 0.001, days)
                predicted[rng.random(days) < 0.1] = 0.0
                rows += [
                    {"date": d, "ticker": ticker, "model": model, "seed": number, "actual": a, "predicted": p}
                    for d, a, p in zip(dates, actual, predicted, strict=True)
                ]
    return pd.DataFrame(rows).sample(frac=1, random_state=seed).iloc[missing:]


def slow(predictions, model, cost):
    """Trade one day of one ticker at a time."""
    own = predictions[predictions["model"] == model]
    by_seed = []
    for number in sorted(set(own["seed"])):
        days = {}
        for ticker in sorted(set(own["ticker"])):
            held = 0.0
            mine = own[(own["ticker"] == ticker) & (own["seed"] == number)].sort_values("date")
            for row in mine.itertuples():
                position = 1.0 if row.predicted > 0 else -1.0 if row.predicted < 0 else 0.0
                paid = abs(position - held) * cost / 10_000
                days.setdefault(row.date, []).append(position * (math.exp(row.actual) - 1) - paid)
                held = position
        by_seed.append([sum(v) / len(v) for _, v in sorted(days.items())])
    returns = [252 * sum(d) / len(d) for d in by_seed]
    sharpes = [math.sqrt(252) * np.mean(d) / np.std(d, ddof=1) for d in by_seed]
    return sum(returns) / len(returns), sum(sharpes) / len(sharpes)


@pytest.mark.parametrize("cost", [0, 1, 5])
def test_agrees_with_a_slow_loop(cost):
    predictions = world()
    table = sign_strategy(predictions, resamples=50).set_index("model")
    for model in ("m", "n"):
        expected, sharpe = slow(predictions, model, cost)
        assert table.loc[model, f"return_{cost}bp"] == pytest.approx(expected, rel=1e-10)
        assert table.loc[model, f"sharpe_{cost}bp"] == pytest.approx(sharpe, rel=1e-10)


def test_costs_are_turnover_times_basis_points_and_holding_pays_once():
    table = sign_strategy(world(days=252), resamples=50).set_index("model")
    for model in ("m", "n", HOLD):
        paid = table.loc[model, "return_0bp"] - table.loc[model, "return_5bp"]
        assert paid == pytest.approx(5e-4 * table.loc[model, "turnover"], rel=1e-9)
    assert table.loc[HOLD, "turnover"] == pytest.approx(1.0)
    assert table.loc[HOLD, "long"] == 1.0
    assert table.loc[HOLD, "over_hold_5bp"] == 0.0


def test_who_knows_the_sign_earns_every_move_and_who_says_nothing_earns_nothing():
    predictions = world(models=("m",), seeds=1)
    knows = predictions.assign(model="knows", predicted=predictions["actual"])
    silent = predictions.assign(model="silent", predicted=0.0)
    up = predictions.assign(model="up", predicted=0.01)
    table = sign_strategy(pd.concat([predictions, knows, silent, up]), resamples=200).set_index("model")
    assert table.loc["knows", "return_0bp"] == pytest.approx(
        252 * np.abs(np.expm1(predictions["actual"])).mean(), rel=1e-9
    )
    assert table.loc["knows", "over_hold_1bp_lo"] > 0
    assert table.loc["silent", ["return_5bp", "turnover"]].tolist() == [0.0, 0.0]
    assert math.isnan(table.loc["silent", "sharpe_0bp"])
    assert table.loc["up", "return_1bp"] == pytest.approx(table.loc[HOLD, "return_1bp"])
    assert table.index[0] == "knows"


def test_a_missing_forecast_is_no_position_and_other_tickers_go_on():
    predictions = world(models=("m",), seeds=1)
    one = predictions["ticker"] == "A"
    gone = predictions.assign(predicted=predictions["predicted"].mask(one))
    table = sign_strategy(gone, resamples=50).set_index("model")
    expected, _ = slow(predictions[~one], "m", 0)
    assert table.loc["m", "return_0bp"] == pytest.approx(expected / 2, rel=1e-10)
