"""The door of the surfaces: both files give the same block, what is wrong ends in one line."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from farm.base.errors import UserError
from farm.data import surface as surface_module
from farm.data.surface import MATURITIES, MONEYNESS, Surfaces, anchors, read_surfaces

EURUSD = Path(__file__).parents[3] / "shared/data/external/eurusd_iv_surface_2012_2019.npz"


def arrays(n: int = 6) -> dict[str, Any]:
    """A file's arrays: the first return is missing, as in public files."""
    rng = np.random.default_rng(1)
    returns = rng.normal(0, 0.01, n)
    returns[0] = np.nan
    return {
        "surface": rng.uniform(0.1, 0.4, (n, 5, 5)),
        "dates": np.datetime64("2020-01-06") + np.arange(n),
        "ret": returns,
        "ttm_years": np.array(MATURITIES),
        "moneyness": np.array(MONEYNESS),
    }


def save(folder: Path, values: dict[str, Any], name: str = "s.npz") -> Path:
    np.savez(folder / name, **values)
    return folder / name


def long_table(values: dict[str, Any], axis: str = "moneyness") -> pd.DataFrame:
    """The same as rows, shuffled."""
    rows = [
        (str(day), years, strike, values["surface"][i, j, k], values["ret"][i])
        for i, day in enumerate(values["dates"])
        for j, years in enumerate(values["ttm_years"])
        for k, strike in enumerate(values[axis])
    ]
    table = pd.DataFrame(rows, columns=["date", "maturity", axis, "iv", "return"])
    return table.sample(frac=1, random_state=0)


def test_npz_gives_what_was_written_less_the_day_without_return(tmp_path):
    values = arrays()
    got = read_surfaces(save(tmp_path, values))
    np.testing.assert_array_equal(got.iv, values["surface"][1:].astype(np.float32))
    np.testing.assert_array_equal(got.dates, values["dates"][1:])
    np.testing.assert_array_equal(got.returns, values["ret"][1:])
    assert (got.axis, got.source, len(got)) == ("moneyness", "s.npz", 5)
    assert got.iv.dtype == np.float32
    assert not got.iv.flags.writeable


def test_parquet_gives_the_same_surfaces_from_rows_in_any_order(tmp_path):
    values = arrays()
    want = read_surfaces(save(tmp_path, values))
    for dates in (str, pd.Timestamp):
        table = long_table(values)
        table["date"] = table["date"].map(dates)
        table.to_parquet(tmp_path / "s.parquet")
        assert read_surfaces(tmp_path / "s.parquet").digest == want.digest


def test_delta_grid_of_another_size_passes_in_both_files(tmp_path):
    rng = np.random.default_rng(2)
    values = arrays() | {"surface": rng.uniform(0.1, 0.4, (6, 8, 3)), "ttm_years": np.arange(1, 9) / 4}
    del values["moneyness"]
    values["delta"] = np.array([0.25, 0.5, 0.75])
    got = read_surfaces(save(tmp_path, values))
    assert (got.iv.shape, got.axis) == ((5, 8, 3), "delta")
    long_table(values, "delta").to_parquet(tmp_path / "s.parquet")
    assert read_surfaces(tmp_path / "s.parquet").digest == got.digest


def test_prices_stand_in_for_returns(tmp_path):
    values = arrays()
    price = 100 * np.exp(np.cumsum(np.nan_to_num(values.pop("ret"))))
    got = read_surfaces(save(tmp_path, values | {"price": price}))
    np.testing.assert_allclose(got.returns, np.diff(np.log(price)))


def test_five_by_five_without_axes_is_on_the_default_grid(tmp_path):
    values = arrays()
    del values["ttm_years"], values["moneyness"]
    got = read_surfaces(save(tmp_path, values))
    assert (tuple(got.maturities), tuple(got.strikes)) == (MATURITIES, MONEYNESS)


@pytest.mark.skipif(not EURUSD.exists(), reason="the file is not part of the project")
def test_eurusd_file_loads_and_agrees_with_its_own_features():
    raw = np.load(EURUSD)
    got = read_surfaces(EURUSD)
    assert (got.iv.shape, got.axis) == ((1898, 5, 5), "delta")
    for mine, its in ((got.level, "levels"), (got.skew, "skews"), (got.slope, "slopes")):
        np.testing.assert_allclose(mine, raw[its][1:], atol=2e-8)
    np.testing.assert_array_equal(got.extra[:, 0], raw["ret"][1:].astype(np.float32))


# ---------------------------------------------------------------- features


def test_features_are_the_issues_formulas_on_the_default_grid():
    s = np.random.default_rng(3).uniform(0.1, 0.4, (4, 5, 5)).astype(np.float32)
    days = np.datetime64("2020-01-06") + np.arange(4)
    got = Surfaces(days, s, np.arange(4) / 100, np.array(MATURITIES), np.array(MONEYNESS), "moneyness", "x")
    np.testing.assert_array_equal(got.level, s[:, 3, 2])
    np.testing.assert_array_equal(got.skew, (s[:, 3, 1] + s[:, 3, 3]) / 2 - s[:, 3, 2])
    np.testing.assert_array_equal(got.slope, s[:, 4, 2] - s[:, 1, 2])
    np.testing.assert_array_equal(got.extra, np.stack([np.float32(got.returns), got.skew, got.slope], axis=1))


@pytest.mark.parametrize(
    ("maturities", "strikes", "axis", "expected"),
    [
        (MATURITIES, MONEYNESS, "moneyness", (3, 1, 4, 2)),
        ((1 / 12, 0.25, 0.5, 1, 3), (0.1, 0.25, 0.5, 0.75, 0.9), "delta", (3, 1, 4, 2)),
        ((1 / 12, 1 / 6, 0.25, 0.5, 0.75, 1, 3, 5), (0.1, 0.25, 0.5, 0.75, 0.9), "delta", (5, 2, 7, 2)),
        ((0.1, 0.2), (0.5, 0.6, 0.7), "moneyness", (1, 0, 1, 1)),  # the money is outside: nearest inner one
        ((0.9, 1.2, 5), (0.6, 0.9, 1.05, 1.2), "moneyness", (0, 0, 2, 2)),
    ],
)
def test_anchors_on_other_grids(maturities, strikes, axis, expected):
    assert anchors(np.array(maturities), np.array(strikes), axis) == expected


def test_digest_names_the_content(tmp_path):
    values = arrays()
    digests = {read_surfaces(save(tmp_path, values)).digest for _ in range(2)}
    values["surface"][3, 2, 1] += 1e-3
    digests.add(read_surfaces(save(tmp_path, values)).digest)
    values["ret"][4] += 1e-3
    digests.add(read_surfaces(save(tmp_path, values)).digest)
    values["moneyness"][4] += 0.1
    digests.add(read_surfaces(save(tmp_path, values)).digest)
    assert len(digests) == 4


@pytest.mark.parametrize("field", ["iv", "returns", "dates", "maturities", "strikes"])
def test_the_type_refuses_what_the_door_should_have(field):
    values: dict[str, Any] = {
        "dates": np.datetime64("2020-01-06") + np.arange(4),
        "iv": np.full((4, 5, 5), 0.2, dtype=np.float32),
        "returns": np.zeros(4),
        "maturities": np.array(MATURITIES),
        "strikes": np.array(MONEYNESS),
    }
    bad = values[field].copy()
    bad[-1] = bad[0] if field in ("dates", "maturities", "strikes") else np.nan
    with pytest.raises(ValueError, match="must"):
        Surfaces(**values | {field: bad}, axis="moneyness", source="x")


# ---------------------------------------------------------------- what is wrong


def put(name: str, at: tuple[int, ...], value: float):
    def change(values: dict[str, Any]) -> None:
        values[name][at] = value

    return change


def replaced(**new: Any):
    def change(values: dict[str, Any]) -> None:
        for name, value in new.items():
            values[name] = value(values[name]) if callable(value) else value

    return change


def without(*names: str):
    def change(values: dict[str, Any]) -> None:
        for name in names:
            del values[name]

    return change


BAD = [
    (
        put("surface", (2, 3, 1), np.nan),
        "2020-01-08: got volatility nan at maturity 1, moneyness 0.85 (1 such",
    ),
    (put("surface", (2, 0, 4), 0.0), "2020-01-08: got volatility 0 at maturity 0.08333, moneyness 1.3"),
    (put("surface", (2, 0, 4), -0.2), "got volatility -0.2"),
    (put("surface", (0, 0, 0), np.inf), "2020-01-06: got volatility inf"),
    (put("surface", (2, 0, 4), 1e-60), "got volatility 1e-60"),  # 0 in single precision
    (replaced(surface=lambda s: 100 * s), "where 0.2 is 20 % a year"),
    (replaced(surface=lambda s: s[:, 0]), "got a surface (6, 5), expected (days, maturities, strikes)"),
    (replaced(surface=lambda s: s[:, :4]), "got maturities (5,) for a surface of 4 maturities x 5 strikes"),
    (replaced(surface=lambda s: s[:, :, :2], moneyness=np.array([0.9, 1.1])), "at least 3"),
    (replaced(surface=lambda s: s + 1j), "surface holds complex128, expected numbers"),
    (replaced(surface=lambda s: s[:4]), "got 4 surfaces and 6 dates"),
    (
        replaced(dates=lambda d: d[[0, 2, 1, 3, 4, 5]]),
        "got date 2020-01-07 after 2020-01-08, expected each day once",
    ),
    (replaced(dates=lambda d: d[[0, 1, 1, 3, 4, 5]]), "got date 2020-01-07 after 2020-01-07"),
    (replaced(dates=lambda d: np.arange(6)), "dates hold int64 (6,), expected days"),
    (replaced(dates=lambda d: np.array(["soon"] * 6)), "a date cannot be read"),
    (put("dates", (3,), np.datetime64("NaT")), "date 4 is missing"),  # type: ignore[arg-type]
    (put("dates", (5,), np.datetime64("9999-12-31")), "date 6 is 9999-12-31 (1 such days), expected"),  # type: ignore[arg-type]
    (put("dates", (0,), np.datetime64("1020-01-06")), "date 1 is 1020-01-06"),  # type: ignore[arg-type]
    (replaced(moneyness=lambda m: m[::-1]), "increasing: sort the grid"),
    (put("moneyness", (0,), 0.0), "expected numbers above 0"),
    (put("ttm_years", (1,), np.nan), "got maturities 0.0833333, nan"),
    (put("ret", (3,), np.nan), "2020-01-09: got return nan (1 such days), expected a log return"),
    (put("ret", (3,), 1.7), "got return 1.7"),
    (replaced(ret=lambda r: r[1:]), "got return (5,) for 6 days"),
    (without("surface"), "got the arrays 'dates', 'ret', 'ttm_years', 'moneyness', expected 'surface'"),
    (without("dates"), "expected 'dates' among them"),
    (without("ret"), "expected 'ret' or 'price' among them"),
    (without("ttm_years"), "without 'ttm_years' or 'maturities'"),
    (lambda v: v.update(delta=v["moneyness"]), "both arrays of moneyness and of delta"),
    (lambda v: (without("moneyness")(v), v.update(delta=np.linspace(0.2, 1, 5))), "numbers between 0 and 1"),
    (lambda v: (without("ret")(v), v.update(price=np.array([1, 2, 0, 3, 4, 5.0]))), "got price 0"),
    (lambda v: (without("ret")(v), v.update(price=np.array([np.nan, 2, 1, 3, 4, 5.0]))), "got price nan"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_bad_npz_ends_in_one_line(tmp_path, spoil, message):
    values = arrays()
    spoil(values)
    with pytest.raises(UserError) as caught:
        read_surfaces(save(tmp_path, values))
    assert message in str(caught.value)
    assert str(caught.value).startswith("s.npz: ")
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    fired = tmp_path / "fired"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (fired,))

    for name in ("dates", "surface"):
        values = arrays()
        values[name] = np.array([Bomb()] * 6, dtype=object)
        np.savez(tmp_path / "s.npz", **values, allow_pickle=True)
        with pytest.raises(UserError, match="holds pickled objects"):
            read_surfaces(tmp_path / "s.npz")
    assert not fired.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither npz nor parquet"),
        (b"date,iv\n2020-01-01,0.2\n", "neither npz nor parquet"),
        (b"PK\x03\x04 and no more", "damaged npz"),
        (b"PAR1 and no more", "damaged parquet"),
    ],
)
def test_no_surface_file_at_all(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_surfaces(tmp_path / "x")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read_surfaces(tmp_path / "absent.npz")
    with pytest.raises(UserError, match="no regular file"):
        read_surfaces(tmp_path)


def test_any_flipped_byte_gives_surfaces_or_one_line(tmp_path):
    whole = save(tmp_path, arrays()).read_bytes()
    long_table(arrays()).to_parquet(tmp_path / "s.parquet")
    rng = np.random.default_rng(5)
    for content in (whole, (tmp_path / "s.parquet").read_bytes()):
        for at in rng.integers(4, len(content), 60):
            spoilt = bytearray(content)
            spoilt[at] ^= 0xFF
            (tmp_path / "x").write_bytes(spoilt[: at + 1] if at % 3 == 0 else spoilt)
            lines = []
            try:
                read_surfaces(tmp_path / "x")
            except UserError as error:
                lines = str(error).splitlines()
            assert len(lines) < 2


def test_an_oversized_file_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    small = save(tmp_path, arrays())
    monkeypatch.setattr(surface_module, "MAX_BYTES", 2000)
    with pytest.raises(UserError, match="more than 2 GiB"):
        read_surfaces(small)
    bomb = tmp_path / "bomb.npz"
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((6, 100, 100)))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("surface.npy", zeros.getvalue())
        for name in ("dates", "ret"):
            buffer = io.BytesIO()
            np.save(buffer, arrays()[name])
            archive.writestr(f"{name}.npy", buffer.getvalue())
    assert bomb.stat().st_size < 2000
    with pytest.raises(UserError, match="unpacks to more"):
        read_surfaces(bomb)


def drop_row(table: pd.DataFrame) -> pd.DataFrame:
    return table[~((table["date"] == "2020-01-08") & (table["maturity"] == 1) & (table["moneyness"] == 1))]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_row, "2020-01-08: got 24 rows, expected 25"),
        (lambda t: pd.concat([t, t[t["date"] == "2020-01-08"].head(1)]), "2020-01-08: got 26 rows"),
        (lambda t: t.replace({"maturity": {0.5: 0.25}}), "got 25 rows, expected 20"),
        (lambda t: t.assign(iv=t["iv"].where(t["date"] != "2020-01-10")), "2020-01-10: got volatility nan"),
        (lambda t: t.assign(iv="high"), "iv holds"),
        (lambda t: t.drop(columns="maturity"), "expected 'maturity' and"),
        (lambda t: t.drop(columns="iv"), "expected 'iv' among them"),
        (lambda t: t.assign(**{"return": np.arange(len(t)) / 1000}), "return differs between rows"),
        (lambda t: t.iloc[:0], "got a table without rows"),
    ],
)
def test_a_bad_parquet_ends_in_one_line(tmp_path, spoil, message):
    spoil(long_table(arrays())).to_parquet(tmp_path / "s.parquet")
    with pytest.raises(UserError) as caught:
        read_surfaces(tmp_path / "s.parquet")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
