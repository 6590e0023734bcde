import io
import math
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy import stats

from farm.base.errors import UserError
from farm.report.figures import figures
from farm.report.looks import INK
from farm.report.marks import AROUND, heat_map, new_figure
from tests.report.conftest import BASELINES, TICKERS, VARIANTS, Sweep, judge, make_sweep

STEMS = (
    "ablation_bars",
    "rmse_per_ticker",
    "curves",
    "predictions",
    "direction_heatmap",
    "full_comparison",
)
T12 = (*TICKERS, "BAC", "JPM", "PG", "WMT", "XOM")
T30 = tuple(f"TICK{i}" for i in range(30))


def draw(sweep: Sweep, ticker: str | None = None) -> dict[str, Figure]:
    return dict(figures(sweep.table, sweep.scores, sweep.predictions, sweep.curves, sweep.references, ticker))


@pytest.fixture(scope="module")
def drawn(sweep):
    return draw(sweep)


def points(axis):
    """The single markers of a panel: (x, y, marker, colour)."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_marker(), to_hex(line.get_color()))
        for line in axis.lines
        if len(line.get_xdata()) == 1
    ]


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def assert_whole(figure):
    """Nothing sticks out of the picture, where it would be cut off."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 > -0.02
    assert box.y0 > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


def assert_labels_apart(figure):
    """No tick label of a visible axis touches its neighbour."""
    figure.draw_without_rendering()
    for axis in figure.axes:
        for side, span in ((axis.xaxis, "intervalx"), (axis.yaxis, "intervaly")):
            limits = sorted(side.get_view_interval())
            shown = [
                label.get_window_extent()
                for label, at in zip(side.get_ticklabels(), side.get_ticklocs(), strict=False)
                if label.get_visible() and label.get_text() and limits[0] <= at <= limits[1]
            ]
            if any(label.get_rotation() % 90 for label in side.get_ticklabels()):
                continue  # boxes of slanted labels overlap, the labels do not
            ends = sorted(tuple(getattr(box, span)) for box in shown)
            assert all(left[1] <= right[0] + 1 for left, right in pairwise(ends))


def test_six_figures_under_their_stems(drawn):
    assert tuple(drawn) == STEMS
    assert all(isinstance(figure, Figure) for figure in drawn.values())


def test_global_state_of_matplotlib_is_left_alone(sweep):
    before = dict(mpl.rcParams)
    for figure in draw(sweep).values():
        figure.savefig(io.BytesIO(), format="png", dpi=30)
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"tickers": T12, "seeds": 1},
        {
            "tickers": T30,
            "variants": (*VARIANTS, "GRU", "TCN-Raw-long-name", "N-BEATS", "MLP"),
            "seeds": 1,
            "days": 60,
        },
        {"tickers": ("AAPL",), "variants": ("LSTM-Raw",), "baselines": ("linear", "econometric"), "seeds": 1},
    ],
    ids=["seven tickers", "twelve tickers, one seed", "thirty tickers, eight variants", "one of each"],
)
def test_nothing_is_cut_off_or_overlaps(shape):
    for figure in draw(make_sweep(**shape)).values():
        assert_whole(figure)
        assert_labels_apart(figure)


def test_ablation_draws_the_table(sweep, drawn):
    rows = sweep.table[sweep.table["role"] == "variant"]
    linear = sweep.table.set_index("model").loc["linear"]
    axes = drawn["ablation_bars"].axes
    for axis, column, scale in zip(axes, ("rmse", "mae", "direction_accuracy"), (1, 1, 100), strict=True):
        assert [x for x, *_ in points(axis)] == pytest.approx(list(scale * rows[column]))
        dashed = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"]
        assert dashed == pytest.approx([scale * linear[column]])
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert names == list(rows["model"])
    bars = [bar.get_segments()[0][:, 0] for bar in axes[0].collections]
    assert np.array(bars) == pytest.approx(rows[["rmse_lo", "rmse_hi"]].to_numpy())


def test_per_ticker_draws_mean_and_spread_of_seeds(sweep, drawn):
    top, bottom = drawn["rmse_per_ticker"].axes
    labels = [label.get_text() for label in bottom.get_xticklabels()]
    assert sorted(labels) == sorted(TICKERS)
    drawn_variants = [line for line in top.lines if len(line.get_xdata()) == len(TICKERS)]
    skills = [line for line in bottom.lines if len(line.get_xdata()) == len(TICKERS)]
    ranked = [name for name in sweep.table["model"] if name in VARIANTS]
    for name, line, skill in zip(ranked, drawn_variants, skills, strict=True):
        for i, ticker in enumerate(labels):
            there = sweep.scores[sweep.scores["ticker"] == ticker].set_index("model")["rmse"]
            mine, linear = there[name], there["linear"]
            assert line.get_ydata()[i] == pytest.approx(mine.mean())
            assert skill.get_ydata()[i] == pytest.approx(100 * (1 - stats.gmean(mine / linear)))
            assert round(line.get_xdata()[i]) == i
    segments = np.array(top.collections[0].get_segments())[:, :, 1]
    seeds = sweep.scores[sweep.scores["model"] == ranked[0]].groupby("ticker")["rmse"]
    assert segments == pytest.approx(np.stack([seeds.min()[labels], seeds.max()[labels]], axis=1))


def test_curve_mean_holds_a_stopped_replicate_at_its_last_loss(sweep, drawn):
    axis = drawn["curves"].axes[0]
    name = axis.get_title(loc="left")
    mine = sweep.curves[sweep.curves["model"] == name]
    replicates = [group.set_index("epoch") for _, group in mine.groupby(["ticker", "seed"])]
    for epoch in (1, 15, int(mine["epoch"].max())):
        expected = np.mean([r["val_loss"].loc[min(epoch, r.index.max())] for r in replicates])
        mean = next(line for line in axis.lines if line.get_linestyle() == "-" and line.get_linewidth() > 2)
        assert mean.get_ydata()[list(mean.get_xdata()).index(epoch)] == pytest.approx(expected)
    assert sum(len(c.get_segments()) for c in axis.collections) == 2 * len(replicates)
    best = next(line for line in axis.lines if line.get_marker() == "o")
    assert sorted(best.get_xdata()) == sorted(r["best_epoch"].iloc[0] for r in replicates)


def test_predictions_draw_the_asked_ticker_on_one_scale(sweep):
    figure = draw(sweep, "NVDA")["predictions"]
    actual = sweep.predictions.query("ticker == 'NVDA' and model == 'zero'")["actual"].to_numpy()
    assert len(figure.axes) == 2 * len(VARIANTS)
    for left in figure.axes[::2]:
        assert left.lines[0].get_ydata() == pytest.approx(actual)
        low, high = left.get_ylim()
        assert low < actual.min()
        assert high > actual.max()
    with pytest.raises(UserError, match=r"ticker 'NVDIA'.*did you mean 'NVDA'"):
        draw(sweep, "NVDIA")


def test_heatmap_writes_the_scores(sweep, drawn):
    axis = drawn["direction_heatmap"].axes[0]
    models = [label.get_text() for label in axis.get_xticklabels()]
    assert sorted(models[: len(VARIANTS)]) == sorted(VARIANTS)
    means = sweep.scores.groupby(["ticker", "model"])["direction_accuracy"].mean()
    rows = [label.get_text() for label in axis.get_yticklabels()]
    written = np.array([text.get_text() for text in axis.texts]).reshape(len(rows), len(models))
    for i, ticker in enumerate(rows[:-1]):
        assert list(written[i]) == [f"{100 * means[ticker, model]:.1f}" for model in models]
    zero = models.index("zero")
    assert set(written[:, zero]) == {"50.0"}
    # 1.96 standard deviations of the share of heads in 390 tosses, in percent.
    assert "390 test days: 50 ± 5.0" in drawn["direction_heatmap"].get_supxlabel()
    low, high = axis.images[0].get_clim()
    assert low + high == pytest.approx(100)


def test_cells_are_written_in_an_ink_that_is_seen():
    axis = new_figure(4, 3).subplots()
    table = pd.DataFrame([[-1.0, 0.1, math.nan], [0.0, 1.0, 9.0]], index=["a", "b"], columns=["x", "y", "z"])
    heat_map(axis, table, AROUND, -1, 1, lambda value: "" if math.isnan(value) else f"{value:.0f}")
    found = {text.get_position(): (text.get_text(), text.get_color()) for text in axis.texts}
    assert found == {
        (0, 0): ("−1", "white"), (1, 0): ("0", INK), (0, 1): ("0", INK), (1, 1): ("1", "white"),
        (2, 1): ("9", "white"),
    }  # fmt: skip
    assert [label.get_text() for label in axis.get_xticklabels()] == ["x", "y", "z"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]


def test_full_comparison_ranks_all_and_says_what_is_off_the_scale(sweep, drawn):
    left, right = drawn["full_comparison"].axes
    assert [label.get_text() for label in left.get_yticklabels()] == list(sweep.table["model"])
    persistence = 100 * sweep.table.set_index("model").loc["persistence", "linear_rmse_skill"]
    assert persistence < right.get_xlim()[0] < 0
    assert f"← {persistence:+.2f}".replace("-", "−") in texts(drawn["full_comparison"])
    for x, y, *_ in points(right):
        assert x == pytest.approx(100 * sweep.table["linear_rmse_skill"].iloc[int(y)])


def test_a_model_looks_the_same_everywhere_and_whatever_its_rank(sweep, drawn):
    def looks(some):
        out = {}
        for stem in ("ablation_bars", "full_comparison"):
            axis = some[stem].axes[0]
            names = [label.get_text() for label in axis.get_yticklabels()]
            for _, y, marker, colour in points(axis):
                out.setdefault(names[int(y)], set()).add((marker, colour))
        return out

    first = looks(drawn)
    assert all(len(seen) == 1 for seen in first.values())
    colours = [colour for name in VARIANTS for _, colour in first[name]]
    assert len(set(colours)) == len(VARIANTS)
    for name in BASELINES:
        for _, colour in first.get(name, ()):
            assert colour[1:3] == colour[3:5] == colour[5:7]  # grey
    turned = replace(sweep, table=sweep.table.iloc[::-1].reset_index(drop=True))
    assert looks(draw(turned)) == first


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_failures_leave_figures_that_say_so():
    whole = make_sweep(days=60)
    wild = whole.predictions.copy()
    wild.loc[wild["model"].eq("LSTM-Raw"), "predicted"] = 30.0
    wild.loc[wild["model"].eq("LSTM-Feat"), "predicted"] = 0.0004
    wild = wild[~(wild["model"].eq("Transformer-Feat") & wild["ticker"].eq("MSFT"))]
    wild = wild[~wild["model"].isin(["LSTM-OHLCV", "econometric"])]
    curves = whole.curves[~whole.curves["model"].eq("LSTM-OHLCV")]
    drawn = draw(judge(wild, curves))
    for figure in drawn.values():
        assert_whole(figure)
    assert len(drawn["curves"].axes) == 3
    assert "the forecast is off this scale" in texts(drawn["predictions"])
    assert "LSTM-Feat:  the forecast is constant" in [
        axis.get_title(loc="left") for axis in drawn["predictions"].axes
    ]
    high = drawn["rmse_per_ticker"].axes[0].get_ylim()[1]
    assert high < 0.1  # the others keep their scale
    assert any("→" in text for text in texts(drawn["rmse_per_ticker"]))


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_missing_intervals_curves_variants_and_reference(sweep):
    bare = sweep.table.assign(rmse_lo=np.nan, rmse_hi=np.nan, linear_rmse_skill_lo=np.nan)
    none = draw(replace(sweep, table=bare, curves=sweep.curves.iloc[:0]))
    for figure in none.values():
        assert_whole(figure)
    assert "no learning curves" in none["curves"].texts[0].get_text()
    baselines = make_sweep(variants=(), days=60)
    assert baselines.curves.empty
    for figure in draw(baselines).values():
        assert_whole(figure)
    without = sweep.table[sweep.table["model"] != "linear"].assign(
        linear_rmse_skill=np.nan, linear_rmse_skill_lo=np.nan, linear_rmse_skill_hi=np.nan
    )
    scores = sweep.scores[sweep.scores["model"] != "linear"]
    lost = draw(replace(sweep, table=without.reset_index(drop=True), scores=scores))
    assert "linear did not finish" in texts(lost["rmse_per_ticker"])


def test_losses_that_are_not_positive_are_drawn_on_a_linear_scale(sweep):
    below = sweep.curves.assign(val_loss=sweep.curves["val_loss"] - 1)
    axis = draw(replace(sweep, curves=below))["curves"].axes[0]
    assert axis.get_yscale() == "linear"
    assert axis.get_ylim()[0] < -0.99


def test_an_unknown_direction_accuracy_is_a_blank_cell(sweep):
    scores = sweep.scores.copy()
    scores.loc[scores["ticker"].eq("AAPL") & scores["model"].eq("zero"), "direction_accuracy"] = np.nan
    whole = len(texts(draw(sweep)["direction_heatmap"]))
    assert len(texts(draw(replace(sweep, scores=scores))["direction_heatmap"])) == whole - 1
    blank = draw(replace(sweep, scores=scores.assign(direction_accuracy=np.nan)))["direction_heatmap"]
    assert "No model" in blank.texts[0].get_text()


def test_extra_columns_do_not_matter(sweep):
    wide = sweep.predictions.assign(q05=-0.1, q95=0.1)
    assert isinstance(wide, pd.DataFrame)
    assert tuple(draw(replace(sweep, predictions=wide))) == STEMS
