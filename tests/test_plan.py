import numpy as np
import pytest

from farm.base.config import signature
from farm.base.errors import UserError
from farm.base.search_space import Choice, Float, Int, Sweep, Variant
from farm.data.door import load_panel
from farm.data.panel import Panel
from farm.experiment import TrialConfig
from farm.plan import Options, _draw, make_plan, parse_setting
from farm.sweep import load_sweep


@pytest.fixture(scope="module")
def panel() -> Panel:
    return load_panel()


def plan(panel: Panel, **options):
    settings = dict(parse_setting(text) for text in options.pop("settings", ()))
    return make_plan(*load_sweep("ablation"), panel, Options(quick=True, settings=settings, **options))


def test_settings_reach_every_row_that_has_the_field_and_no_other(panel: Panel) -> None:
    made = plan(panel, settings=["hidden_size=32", "training.learning_rate=0.01", "lags=3"])
    for trial in made.trials:
        config = trial.config
        if config.model.name == "lstm":
            assert config.model.hidden_size == 32
        if config.training is not None:
            assert config.training.learning_rate == 0.01
        if trial.row == "linear":
            assert config.model.lags == 3
        if trial.row == "zero":
            assert config.training is None


def test_signature_names_what_decides_the_numbers_and_nothing_else(panel: Panel) -> None:
    before = {(t.row, t.ticker): t.signature for t in plan(panel).trials}
    after = {(t.row, t.ticker): t.signature for t in plan(panel, settings=["hidden_size=32"]).trials}
    changed = {row for row, _ in before if before[row, "AAPL"] != after[row, "AAPL"]}
    assert changed == {"LSTM-Raw", "LSTM-OHLCV", "LSTM-Feat"}
    explicit = {(t.row, t.ticker): t.signature for t in plan(panel, settings=["hidden_size=64"]).trials}
    assert explicit == before, "the resolved value counts, not how it came about"


def test_signature_follows_the_data_that_is_read(panel: Panel) -> None:
    bars = panel.bars["AAPL"]
    values = bars.values.copy()
    row = int((bars.dates == bars.dates.astype("datetime64[D]")[100]).argmax())
    values[row, 3] *= 1.0001
    changed = Panel({**panel.bars, "AAPL": type(bars)(bars.dates, values)}, panel.source)
    one, other = plan(panel).trials, plan(changed).trials
    same = {a.ticker for a, b in zip(one, other, strict=True) if a.signature == b.signature}
    assert same == {"MSFT"}


def test_a_components_version_changes_the_signature(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    config = next(t.config for t in plan(panel).trials if t.row == "LSTM-Raw")
    before = signature(config, "d")
    monkeypatch.setattr(type(config.model), "VERSION", 2)
    assert signature(config, "d") != before
    assert signature(config, "other data") != before


def test_signature_is_stable_over_time() -> None:
    """A change of this value throws every stored result away; raise a VERSION if that is meant."""
    config = TrialConfig.model_validate(
        {"study": {"name": "forecast", "ticker": "A", "market": "M"}, "model": {"name": "zero"}}
    )
    assert signature(config, "digest") == "9fbd033f7e0cacd3"


def test_a_logarithmic_range_is_drawn_from_evenly_in_its_logarithm() -> None:
    """Three decades have a third of the draws each; on a linear scale the upper one has nine of ten."""
    space = Float(1e-5, 1e-2, log=True)
    drawn = np.array([_draw("training.learning_rate", space, i) for i in range(3000)])
    share = np.histogram(np.log10(drawn), [-5, -4, -3, -2])[0] / 3000
    assert np.abs(share - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 3000)
    plain = np.array([_draw("training.learning_rate", Float(1e-5, 1e-2), i) for i in range(3000)])
    assert np.mean(plain > 1e-3) == pytest.approx(0.9, abs=0.025)
    whole = np.array([_draw("model.width", Int(1, 1000, log=True), i) for i in range(3000)])
    octave = np.log(11) / np.log(1001)  # 1 to 10, of 1 to 1,000 and all that is rounded down to it
    assert np.mean(whole <= 10) == pytest.approx(octave, abs=4 * np.sqrt(octave * (1 - octave) / 3000))
    assert (whole.min(), whole.dtype.kind) == (1, "i")
    assert whole.max() <= 1000


def test_a_range_that_is_narrowed_keeps_its_scale(panel: Panel) -> None:
    made = plan(panel, samples=200, variants=("LSTM-Raw",), settings=["training.learning_rate=1e-4..1e-2"])
    rates = [t.config.training.learning_rate for t in made.trials if t.role == "variant"]
    assert np.mean(np.array(rates) < 1e-3) == pytest.approx(0.5, abs=0.15)  # 0.09 on a linear scale


def test_samples_draw_within_the_ranges_and_repeat(panel: Panel) -> None:
    options = {
        "samples": 4,
        "variants": ("LSTM-Feat",),
        "settings": ["hidden_size=8..16", "training.learning_rate=1e-4..1e-3"],
    }
    one, two = plan(panel, **options), plan(panel, **options)
    assert [t.signature for t in one.trials] == [t.signature for t in two.trials]
    rows = one.rows("variant")
    assert rows == tuple(f"LSTM-Feat sample {i}" for i in range(1, 5))
    drawn = [t.config for t in one.trials if t.role == "variant"]
    assert all(8 <= c.model.hidden_size <= 16 and isinstance(c.model.hidden_size, int) for c in drawn)
    assert all(1e-4 <= c.training.learning_rate <= 1e-3 for c in drawn)
    assert len({c.training.learning_rate for c in drawn}) == 4
    more = plan(panel, **{**options, "samples": 6})
    assert {t.signature for t in one.trials} <= {t.signature for t in more.trials}, (
        "more samples keep the first ones"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tickers": ("APPL",)}, "did you mean 'AAPL'"),
        ({"tickers": ("SP500",)}, "is the market itself"),
        ({"market": "SPX"}, "did you mean 'SP500'"),
        ({"variants": ("LSTM-Row",)}, "did you mean 'LSTM-Raw'"),
        ({"settings": ["hiden_size=3"]}, "did you mean model.hidden_size|did you mean 'model.hidden_size'"),
        ({"settings": ["hidden_size=0"]}, "got 0, expected greater than or equal to 1"),
        ({"settings": ["hidden_size=many"]}, "got 'many', expected a valid integer"),
        ({"settings": ["dropout=-0.1"]}, "expected greater than or equal to 0"),
        ({"settings": ["patience=1e99"]}, "expected a valid integer"),
        ({"settings": ["name=lstm"]}, "unknown key 'name'"),
        ({"settings": ["num_layers=2", "lags=50"]}, "lags"),
        ({"settings": ["features=raw"]}, "are the same trial"),
        ({"settings": ["features=fat"]}, "did you mean 'feat'"),
        ({"settings": ["train=0.9", "val=0.1"]}, "leave no test block"),
        ({"settings": ["train=0.9", "val=0.01"]}, "validation block: got 1. of"),
        ({"settings": ["heads=3"]}, "expected a multiple of heads"),
        ({"settings": ["training.learning_rate=1e-3..1e-2"]}, "--samples"),
        ({"settings": ["lookback=5..10"], "samples": 2}, "decide the test days"),
        ({"settings": ["dropout=0.1..5"], "samples": 2}, "expected a range within"),
    ],
)
def test_bad_options_end_in_one_line(panel: Panel, options: dict, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        plan(panel, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["hidden_size", "=3", "hidden_size=", "lr=3..1", "lr=a..b", "lr=1..inf"])
def test_bad_settings_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_setting(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3", 3),
        ("a=3.5", 3.5),
        ("a=1e-3", 1e-3),
        ("a=true", True),
        ("a=feat", "feat"),
        ('a=["x","y"]', ["x", "y"]),
        ("a=" + 100_000 * "[", 100_000 * "["),
    ],
)
def test_settings_are_read_as_json_or_text(text: str, value: object) -> None:
    assert parse_setting(text) == ("a", value)


def test_ranges_and_sweeps_are_checked_when_they_are_made() -> None:
    for bad in (
        lambda: Float(2, 1),
        lambda: Int(3, 3),
        lambda: Float(0, 1, log=True),
        lambda: Choice(()),
        lambda: Choice((1, 1)),
    ):
        with pytest.raises(UserError):
            bad()
    row = Variant(name="a", values={})
    fields = {
        "title": "t",
        "question": "q",
        "common": {},
        "tickers": ("A",),
        "market": "M",
        "variants": (row,),
    }
    with pytest.raises(UserError, match="used twice"):
        Sweep(baselines=(row,), references=("a",), **fields)
    with pytest.raises(UserError, match="not among its baselines"):
        Sweep(baselines=(Variant(name="b", values={}),), references=("c",), **fields)


@pytest.mark.parametrize(
    "name", ["..py", "...py", "-x.py", "a\nb.py", f"{'x' * 300}.py", "\0.py", "../x/.py"]
)
def test_a_sweep_file_names_a_folder_of_results_and_no_other(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected a name") as caught:
        load_sweep(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", ["raise SystemExit(3)", "import sys; sys.exit()", "1 / 0", "def", "\0", "SWEEP = 3"]
)
def test_a_sweep_file_that_fails_is_told_in_one_line(text: str, tmp_path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine\.py") as caught:
        load_sweep(str(path))
    assert "\n" not in str(caught.value)
