import math
import time

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from farm.base.types import Forecast
from farm.evaluation.accuracy import direction_accuracy, mae, rmse
from farm.evaluation.evidence import variance_known
from farm.evaluation.selection import common_block, stepwise_p_values
from farm.evaluation.significance import bootstrap_interval, diebold_mariano
from farm.evaluation.verdict import replicate_scores, verdict

CHEAP = {"resamples": 20}


def frame(model, ticker, seed, actual, predicted):
    dates = pd.bdate_range("2020-01-01", periods=len(actual))
    return pd.DataFrame(
        {
            "date": dates,
            "ticker": ticker,
            "model": model,
            "seed": seed,
            "actual": actual,
            "predicted": predicted,
        }
    )


def world(noise, *, days=120, tickers=("A", "B"), seeds=2, baselines=("linear",), seed=0, common=0.5):
    """Forecasts that know the truth up to noise of a given size for each model, in % returns.

    A share ``common`` of the returns, and of a model's errors, is the same for all tickers.
    """
    rng = np.random.default_rng(seed)

    def shared():
        for_all = rng.standard_normal(days)
        return {t: common**0.5 * for_all + (1 - common) ** 0.5 * rng.standard_normal(days) for t in tickers}

    actual = shared()
    frames = []
    for model, size in noise.items():
        for s in range(1 if model in baselines else seeds):
            error = shared()
            frames += [frame(model, t, s, actual[t], actual[t] + size * error[t]) for t in tickers]
    return pd.concat(frames, ignore_index=True)


def judge(predictions, references=("linear",), variants=("lstm",), baselines=("linear",), **options):
    table = verdict(predictions, references, variants, baselines, **CHEAP | options)
    return table.set_index("model", drop=False)


def test_a_planted_gain_is_found_and_a_planted_loss_too():
    noise = {"good": 0.8, "bad": 1.2, "linear": 1.0, "zero": 1.5}
    predictions = world(noise, days=300, baselines=("linear", "zero"))
    table = judge(predictions, variants=("good", "bad"), baselines=("linear", "zero"))
    assert list(table["model"]) == ["good", "linear", "bad", "zero"]
    assert list(table["beats"]) == ["yes", "", "no", ""]
    assert list(table["role"]) == ["variant", "baseline", "variant", "baseline"]
    good = table.loc["good"]
    assert good["linear_rmse_skill_lo"] < good["linear_rmse_skill"] < good["linear_rmse_skill_hi"]
    assert good["linear_rmse_skill"] == pytest.approx(0.2, abs=0.05)
    assert good["rmse_lo"] < 0.8 < good["rmse_hi"]
    assert good["dm_statistic"] < 0
    assert good["dm_p"] < 0.05
    assert table.loc["bad", "dm_statistic"] > 0


def test_a_small_gain_is_not_shown():
    table = judge(world({"lstm": 0.99, "linear": 1.0}, days=60, seed=5))
    assert table.loc["lstm", "linear_rmse_skill"] > 0
    assert table.loc["lstm", "beats"] == "not shown"


def scales(cells, reference, tickers, days):
    """Variance of each ticker and day that was known the day before, by a loop over days."""
    found = {}
    for ticker in tickers:
        errors = {
            d: np.subtract(*cells[reference, ticker, 0, d]) ** 2
            for d in days
            if (reference, ticker, 0, d) in cells
        }
        first = list(errors)[:20]
        early = np.mean([errors[d] for d in first])
        variance, seen, found[reference, ticker] = early, [early] * 20, {}
        for d in days:
            found[reference, ticker][d] = early if d <= first[-1] else max(variance, 0.05 * np.mean(seen))
            if d in errors:
                variance = 0.94 * variance + 0.06 * errors[d]
                seen += [errors[d]] if d not in first else []
    return found


def test_numbers_agree_with_a_slow_computation():
    predictions = world({"lstm": 0.9, "linear": 1.0, "zero": 1.3}, days=60, baselines=("linear", "zero"))
    # One ticker starts later than the other, and one forecast is missing.
    predictions = predictions[(predictions["ticker"] == "A") | (predictions["date"] >= "2020-01-10")]
    predictions = predictions.reset_index(drop=True)
    predictions.loc[40, "predicted"] = np.nan
    # The reference errs more in one month than in another, so blocks of days are drawn.
    wild = (predictions["model"] == "linear") & (predictions["date"].dt.month == 2)
    predictions.loc[wild, "predicted"] += 2 * (predictions["predicted"] - predictions["actual"])[wild]
    row = judge(predictions, ("linear", "zero"), baselines=("linear", "zero"), resamples=50, seed=7).loc[
        "lstm"
    ]

    days = sorted(predictions["date"].unique())
    known = predictions.dropna()
    cells = {(r.model, r.ticker, r.seed, r.date): (r.actual, r.predicted) for r in known.itertuples()}
    replicates = [("A", 0), ("A", 1), ("B", 0), ("B", 1)]

    def pairs(model, ticker, seed, chosen, other=None):
        both = [d for d in chosen if (model, ticker, seed, d) in cells]
        if other:
            return [d for d in both if (other, ticker, 0, d) in cells]
        return np.array([cells[model, ticker, seed, d] for d in both])

    def mean_rmse(chosen):
        actual_predicted = [pairs("lstm", t, s, chosen) for t, s in replicates]
        return np.mean([rmse(Forecast(x[:, 1]), x[:, 0]) for x in actual_predicted])

    def mean_skill(chosen, reference):
        skills = []
        for t, s in replicates:
            both = pairs("lstm", t, s, chosen, reference)
            own = np.sqrt(np.mean([np.subtract(*cells["lstm", t, s, d]) ** 2 for d in both]))
            other = np.sqrt(np.mean([np.subtract(*cells[reference, t, 0, d]) ** 2 for d in both]))
            skills.append(math.log(own / other))
        return 1 - math.exp(np.mean(skills))

    assert row["rmse"] == pytest.approx(mean_rmse(days), rel=1e-12)
    assert row["linear_rmse_skill"] == pytest.approx(mean_skill(days, "linear"), rel=1e-10)
    assert row["zero_rmse_skill"] == pytest.approx(mean_skill(days, "zero"), rel=1e-10)
    whole = [pairs("lstm", t, s, days) for t, s in replicates]
    assert row["mae"] == pytest.approx(np.mean([mae(Forecast(x[:, 1]), x[:, 0]) for x in whole]), rel=1e-12)
    calls = [direction_accuracy(Forecast(x[:, 1]), x[:, 0]) for x in whole]
    assert row["direction_accuracy"] == pytest.approx(np.mean(calls), rel=1e-12)

    scale = scales(cells, "linear", "AB", days)
    losses = []
    for model in ("lstm", "linear"):
        daily = []
        for d in days:
            both = [
                (t, s) for t, s in replicates if ("lstm", t, s, d) in cells and ("linear", t, 0, d) in cells
            ]
            seeds = [(t, s if model == "lstm" else 0) for t, s in both]
            scaled = [np.subtract(*cells[model, t, s, d]) ** 2 / scale["linear", t][d] for t, s in seeds]
            daily.append(np.mean(scaled))
        losses.append(np.array(daily))
    test = diebold_mariano(*losses)
    assert row["dm_statistic"] == pytest.approx(test.statistic, rel=1e-10)
    assert row["dm_p"] == pytest.approx(test.p_value, rel=1e-8)

    reference = [
        np.mean([np.subtract(*cells["linear", t, 0, d]) ** 2 for t in "AB" if ("linear", t, 0, d) in cells])
        for d in days
    ]
    block = common_block(np.array(reference)[:, None])
    assert block > 1
    options = {"resamples": 50, "seed": 7, "block": block}
    at = np.array(days)
    interval = bootstrap_interval(lambda rows: mean_rmse(at[rows]), len(days), **options)
    assert (row["rmse_lo"], row["rmse_hi"]) == pytest.approx(interval, rel=1e-10)
    interval = bootstrap_interval(lambda rows: mean_skill(at[rows], "linear"), len(days), **options)
    assert (row["linear_rmse_skill_lo"], row["linear_rmse_skill_hi"]) == pytest.approx(interval, rel=1e-8)


def test_the_order_of_rows_and_columns_changes_nothing():
    predictions = world({"lstm": 0.9, "gru": 0.95, "linear": 1.0})
    shuffled = predictions.sample(frac=1, random_state=0)[list(reversed(predictions.columns))]
    expected = judge(predictions, variants=("lstm", "gru"))
    pd.testing.assert_frame_equal(judge(shuffled, variants=("gru", "lstm")), expected, check_exact=True)
    pd.testing.assert_frame_equal(
        replicate_scores(shuffled, ("linear",)), replicate_scores(predictions, ("linear",)), check_exact=True
    )


def test_another_seed_moves_the_intervals_alone():
    predictions = world({"lstm": 0.9, "linear": 1.0})
    one, again, other = judge(predictions), judge(predictions), judge(predictions, seed=1)
    pd.testing.assert_frame_equal(one, again, check_exact=True)
    changed = one.columns[(one != other).any() & one.notna().any()]
    counting = {"linear_p_selected", "best_p_selected", "mcs_p", "beats", "beats_best"}
    counting |= {"dm_statistic", "dm_p", "best_dm_statistic", "best_dm_p", "detectable"}  # NaN of a reference
    assert set(changed) - counting == {
        "rmse_lo", "rmse_hi", "linear_rmse_skill_lo", "linear_rmse_skill_hi"
    }  # fmt: skip


def test_the_number_of_threads_changes_nothing():
    variants = tuple("abcdefghijklmnop")
    noise = {name: 0.9 + 0.01 * i for i, name in enumerate((*variants, "linear"))}
    predictions = world(noise, days=390, tickers=tuple("ABCDEFG"), seeds=1)
    tables = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            tables.append(judge(predictions, variants=variants, resamples=500))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_another_variant_changes_only_what_counts_the_variants():
    both = world({"linear": 1.0, "lstm": 0.9, "gru": 0.95})
    alone = both[both["model"] != "gru"]
    one, other = judge(alone).loc["lstm"], judge(both, variants=("lstm", "gru")).loc["lstm"]
    counting = ["linear_p_selected", "best_p_selected", "mcs_p", "beats", "beats_best"]
    pd.testing.assert_series_equal(one.drop(counting), other.drop(counting))
    assert one["linear_p_selected"] <= other["linear_p_selected"]


def test_the_p_values_after_selection_are_those_of_the_daily_losses():
    names = ("linear", "zero")
    noise = {"lstm": 0.85, "gru": 0.97, "mlp": 1.02, "linear": 1.0, "zero": 1.3}
    predictions = world(noise, days=90, baselines=names, seed=3)
    # The variant lacks a ticker, on which all models err more: it must not gain from that.
    wild = predictions["ticker"] == "B"
    predictions.loc[wild, "predicted"] += 2 * (predictions["predicted"] - predictions["actual"])[wild]
    predictions = predictions[~wild | (predictions["model"] != "gru")]
    table = judge(predictions, names, ("lstm", "gru", "mlp"), names, resamples=300, seed=7)

    squared = (predictions["predicted"] - predictions["actual"]) ** 2
    cells = predictions.assign(squared=squared)
    for reference in names:
        own = cells[cells["model"] == reference].pivot_table("squared", "date", "ticker")
        known = pd.DataFrame(variance_known(own.to_numpy()), own.index, own.columns)
        scaled = cells.merge(known.melt(ignore_index=False, value_name="known").reset_index())
        scaled["squared"] /= scaled["known"]
        for family, some in ((["lstm", "mlp"], scaled), (["gru"], scaled[scaled["ticker"] == "A"])):
            daily = some.pivot_table("squared", "date", "model")
            gains = np.column_stack([daily[reference] - daily[name] for name in family])
            against = daily[reference].to_numpy()
            expected = stepwise_p_values(
                against, against[:, None] - gains, block=common_block(gains), resamples=300, seed=7
            )
            found = table.loc[family, f"{reference}_p_selected"].astype(float)
            np.testing.assert_allclose(found, expected, atol=1e-12)
        assert table.loc["gru", "apart"]
        assert table.loc[list(names), f"{reference}_p_selected"].isna().all()
    assert table.loc["lstm", "beats"] == "yes"
    assert table.loc["lstm", "linear_p_selected"] < 0.05
    assert table.loc["lstm", "mcs_p"] == table["mcs_p"].max() == 1
    assert table.loc["zero", "mcs_p"] < 0.05


def test_a_gain_of_the_luckiest_of_many_is_not_shown():
    """Its own test would call it better; how often the adjusted one does is tested in test_selection.py."""
    variants = tuple(f"v{i}" for i in range(20))
    predictions = world(dict.fromkeys((*variants, "linear"), 1.0), days=100, tickers=("A",), seeds=1, seed=0)
    table = judge(predictions, variants=variants, resamples=200)
    best = table.iloc[0]
    assert best["linear_rmse_skill"] > 0
    assert best["dm_statistic"] < 0
    assert best["dm_p"] < 0.05
    assert best["linear_p_selected"] > 0.05
    assert best["beats"] == "not shown"
    alone = predictions[predictions["model"].isin([best["model"], "linear"])]
    assert judge(alone, variants=(best["model"],), resamples=200).loc[best["model"], "beats"] == "yes"


def test_a_model_equal_to_the_reference_has_no_skill_and_p_one():
    predictions = world({"linear": 1.0}, tickers=("A", "B", "C"))
    copies = [predictions.assign(model="lstm", seed=s) for s in range(3)]
    table = judge(pd.concat([predictions, *copies]))
    row = table.loc["lstm"]
    assert row["beats"] == "no"
    assert row["linear_rmse_skill"] == 0.0
    assert (row["dm_statistic"], row["dm_p"]) == (0.0, 1.0)
    assert row["linear_rmse_skill_lo"] == row["linear_rmse_skill_hi"] == 0.0
    assert row["rmse"] == pytest.approx(table.loc["linear", "rmse"], rel=1e-12)


def test_the_reference_itself_has_skill_zero_and_no_test():
    row = judge(world({"lstm": 0.9, "linear": 1.0})).loc["linear"]
    assert row["linear_rmse_skill"] == 0.0
    assert math.isnan(row["dm_p"])
    assert row["beats"] == ""


def test_diebold_mariano_is_antisymmetric():
    names = ("linear", "arima")
    predictions = world({"lstm": 0.8, "linear": 1.0, "arima": 0.9}, baselines=names)
    one = judge(predictions, ("linear",), baselines=names).loc["arima"]
    other = judge(predictions, ("arima",), baselines=names).loc["linear"]
    # Each is measured in the other's variance, so the sizes are near and not equal.
    assert one["dm_statistic"] == pytest.approx(-other["dm_statistic"], rel=0.3)
    assert one["dm_statistic"] < 0 < other["dm_statistic"]


def test_repeating_tickers_or_seeds_is_no_new_evidence():
    predictions = world({"lstm": 0.97, "linear": 1.0}, tickers=("A",), seeds=1)
    once = judge(predictions).loc["lstm"]
    copies = [predictions.assign(ticker=name) for name in "ABCDEFGH"]
    of_tickers = pd.concat(copies)
    more_seeds = of_tickers[of_tickers["model"] == "lstm"].assign(seed=1)
    often = judge(pd.concat([of_tickers, more_seeds])).loc["lstm"]
    assert often["dm_p"] == pytest.approx(once["dm_p"], rel=1e-9)
    assert often["rmse_lo"] == pytest.approx(once["rmse_lo"], rel=1e-9)
    assert often["replicates"] == 16


def test_no_true_difference_is_seldom_called_a_gain():
    worlds, yes, rejected = 100, 0, 0
    for seed in range(worlds):
        predictions = world(
            {"lstm": 1.0, "linear": 1.0}, days=150, tickers=("A", "B"), seeds=1, seed=seed, common=0.8
        )
        row = judge(predictions, resamples=50).loc["lstm"]
        yes += row["beats"] == "yes"
        rejected += row["dm_p"] < 0.05
    four_errors = 4 * math.sqrt(0.05 * 0.95 / worlds)
    assert yes / worlds < 0.05
    assert 0 < rejected / worlds < 0.05 + four_errors


def test_calm_and_wild_tickers_weigh_alike_in_skill_and_test():
    # The calm ticker gains a lot, the wild one loses a little: more in squares than the calm one wins.
    rng = np.random.default_rng(0)
    calm, wild, error = rng.standard_normal((3, 200))
    frames = []
    for model, sizes in {"linear": (0.01, 1.0), "lstm": (0.001, 1.2)}.items():
        frames.append(frame(model, "CALM", 0, calm, calm + sizes[0] * error))
        frames.append(frame(model, "WILD", 0, wild, wild + sizes[1] * error))
    row = judge(pd.concat(frames)).loc["lstm"]
    assert row["linear_rmse_skill"] == pytest.approx(1 - math.sqrt(0.1 * 1.2))
    assert row["dm_statistic"] < 0
    assert row["dm_p"] < 0.05
    assert row["beats"] == "yes"


def test_a_settled_variant_is_complete_with_one_seed():
    predictions = world({"lstm": 0.9, "forest": 0.8, "linear": 1.0}, tickers=("A", "B"), seeds=3)
    one = predictions[(predictions["model"] != "forest") | (predictions["seed"] == 0)]
    table = judge(one, variants=("lstm", "forest"), settled=frozenset({"forest"}))
    columns = ["seeds", "replicates", "expected", "settled"]
    assert list(table.loc["forest", columns]) == [1, 2, 2, True]
    assert list(table.loc["lstm", columns]) == [3, 6, 6, False]


def test_failed_trials_are_left_out_and_counted():
    predictions = world({"lstm": 0.9, "gru": 0.9, "linear": 1.0}, tickers=("A", "B", "C"), seeds=3)
    lost = (predictions["model"] == "gru") & ((predictions["ticker"] == "C") | (predictions["seed"] == 2))
    table = judge(predictions[~lost], variants=("lstm", "gru"))
    assert list(table.loc["gru", ["seeds", "replicates", "expected"]]) == [2, 4, 9]
    assert list(table.loc["lstm", ["seeds", "replicates", "expected"]]) == [3, 9, 9]
    assert list(table.loc["linear", ["seeds", "replicates", "expected"]]) == [1, 3, 3]
    kept = predictions[(predictions["ticker"] != "C") & (predictions["seed"] < 2)]
    empty = predictions.assign(predicted=predictions["predicted"].mask(lost))  # rows of NaN are no rows
    pd.testing.assert_frame_equal(judge(empty, variants=("lstm", "gru")), table)
    alone = judge(kept, variants=("lstm", "gru")).loc["gru"]
    for column in ("rmse", "linear_rmse_skill", "dm_statistic", "dm_p"):
        assert table.loc["gru", column] == pytest.approx(alone[column], rel=1e-12)


def test_a_model_without_forecasts_stands_last():
    table = judge(world({"lstm": 1.5, "linear": 1.0}), variants=("gone", "lstm"))
    assert list(table["model"]) == ["linear", "lstm", "gone"]
    gone = table.loc["gone"]
    assert (gone["replicates"], gone["seeds"], gone["expected"]) == (0, 0, 4)
    assert gone["beats"] == "not shown"
    assert gone[["rmse", "rmse_lo", "mae", "linear_rmse_skill", "dm_p"]].isna().all()


def test_a_reference_that_failed_leaves_everything_unshown():
    table = judge(world({"lstm": 0.5, "gru": 0.4}), variants=("lstm", "gru"))
    assert list(table["model"]) == ["gru", "lstm", "linear"]
    assert list(table["beats"]) == ["not shown", "not shown", ""]
    assert table["rmse"].notna().sum() == 2


def test_tickers_may_have_different_dates():
    predictions = world({"lstm": 0.9, "linear": 1.0})
    apart = predictions[(predictions["ticker"] == "A") == (predictions["date"] < "2020-03-01")]
    table = judge(apart)
    scores = replicate_scores(apart, ("linear",)).set_index(["model", "ticker", "seed"])
    for replicate, rows in apart.groupby(["model", "ticker", "seed"]):
        expected = rmse(Forecast(rows["predicted"].to_numpy()), rows["actual"].to_numpy())
        assert scores.loc[replicate, "rmse"] == pytest.approx(expected, rel=1e-12)
    assert table.loc["lstm", "dm_p"] < 1


def test_replicate_scores_are_one_row_a_replicate():
    predictions = world({"lstm": 0.9, "linear": 1.0, "zero": 1.2}, baselines=("linear", "zero"))
    scores = replicate_scores(predictions, ("linear", "zero")).set_index(["model", "ticker", "seed"])
    assert list(scores.columns) == [
        "mae", "rmse", "direction_accuracy", "vs/linear_rmse_skill", "vs/zero_rmse_skill"
    ]  # fmt: skip
    assert len(scores) == 2 * 2 + 2 + 2
    expected = 1 - scores.loc[("lstm", "B", 1), "rmse"] / scores.loc[("zero", "B", 0), "rmse"]
    assert scores.loc[("lstm", "B", 1), "vs/zero_rmse_skill"] == pytest.approx(expected, rel=1e-12)
    table = judge(predictions, ("linear", "zero"), baselines=("linear", "zero"))
    for column in ("mae", "rmse", "direction_accuracy"):
        assert table.loc["lstm", column] == pytest.approx(scores.loc["lstm", column].mean(), rel=1e-12)


def test_single_precision_truths_are_the_same_truths():
    predictions = world({"lstm": 0.9, "linear": 1.0})
    single = predictions["actual"].astype(np.float32).astype(np.float64)
    predictions["actual"] = predictions["actual"].where(predictions["model"] == "lstm", single)
    judge(predictions)


def test_bad_input_is_refused():
    predictions = world({"lstm": 0.9, "linear": 1.0})
    with pytest.raises(ValueError, match="at least one row"):
        judge(predictions.iloc[:0])
    with pytest.raises(ValueError, match="there twice"):
        judge(pd.concat([predictions, predictions.iloc[:1]]))
    with pytest.raises(ValueError, match="neither a variant nor a baseline"):
        judge(predictions.replace("lstm", "gru"))
    with pytest.raises(ValueError, match="from the baselines"):
        judge(predictions, ("lstm",))
    with pytest.raises(ValueError, match="from the baselines"):
        judge(predictions, ())
    with pytest.raises(ValueError, match="several seeds"):
        judge(pd.concat([predictions, predictions[predictions["model"] == "linear"].assign(seed=1)]))
    shifted = predictions.assign(actual=predictions["actual"] + 0.1 * (predictions["model"] == "lstm"))
    with pytest.raises(ValueError, match="disagree on what came to pass on 240"):
        judge(shifted)


def test_a_whole_ablation_is_judged_in_seconds():
    baselines = ("linear", *(f"b{i}" for i in range(6)))
    variants = ("v0", "v1", "v2", "v3")
    predictions = world(
        dict.fromkeys(variants + baselines, 1.0),
        days=390,
        tickers=tuple("ABCDEFG"),
        seeds=3,
        baselines=baselines,
    )
    started = time.process_time()
    verdict(predictions, ("linear", "b0"), variants, baselines)
    assert time.process_time() - started < 3, "seconds of the processor"
