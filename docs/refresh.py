"""Write the tables and pictures of the last sweeps into the pages of docs/studies.

    python docs/refresh.py backfill

A page keeps its prose; between ``<!-- begin NAME SWEEP -->`` and ``<!-- end -->`` this script puts the
table NAME of ``results/SWEEP``. Run it from the folder that holds ``results/``; `make study` does.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parent
BLOCK = re.compile(r"(<!-- begin (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What the report of the failed CVAE states: RMSE, direction accuracy %, violations %, R2.
REPORT = {
    ("original", "s1"): (0.0246, 70.25, 37.25, 0.01),
    ("original", "s2"): (0.0277, 65.63, 40.63, -0.25),
    ("original", "s3"): (0.0397, 49.38, 56.38, -1.59),
    ("original", "s4"): (0.0457, 50.25, 59.25, -2.41),
    ("linear", ""): (0.0209, 76.25, None, None),
    ("zero", ""): (0.0277, 0.0, None, None),
    ("historical-mean", ""): (0.0279, 47.5, None, None),
    ("persistence", ""): (0.0391, 54.5, None, None),
}
SCENARIOS = ("s1", "s2", "s3", "s4")
CALIBRATORS = ("raw", "cqr", "cqr_scaled", "aci", "temperature", "forest")


def markdown(rows: list[dict[str, str]]) -> str:
    """Lay rows out as a table; the first column is text, the others numbers."""
    names = list(rows[0])
    lines = [" | ".join(names), " | ".join(["---", *["---:"] * (len(names) - 1)])]
    lines += [" | ".join(row[name] for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def number(value: float, pattern: str) -> str:
    """Format a number; what is not there is a dash."""
    return "–" if value is None or pd.isna(value) else format(value, pattern)


def evaluations(results: Path) -> pd.DataFrame:
    """Average the evaluations of a sweep over tickers and seeds."""
    table = pd.read_csv(results / "evaluations.csv", keep_default_na=True)
    table["evaluation"] = table["evaluation"].fillna("")
    scores = table.drop(columns=["ticker", "seed"]).groupby(["model", "evaluation", "days"], sort=False)
    return scores.mean(numeric_only=True)


def verdict(results: Path) -> str:
    """Give the verdict, best first."""
    table = pd.read_csv(results / "table.csv")
    first = next(name.removesuffix("_rmse_skill") for name in table if name.endswith("_rmse_skill"))
    rows = []
    for row in table.to_dict("records"):
        beats = row["beats"] if isinstance(row["beats"], str) else ""
        rows.append(
            {
                "model": row["model"] if row["role"] == "variant" else f"*{row['model']}*",
                f"beats {first}": beats,
                "RMSE": number(row["rmse"], ".5f"),
                "95 %": f"{row['rmse_lo']:.4f}–{row['rmse_hi']:.4f}",
                f"skill vs {first}": number(100 * row[f"{first}_rmse_skill"], "+.2f") + " %",
                "direction": number(100 * row["direction_accuracy"], ".1f") + " %",
                "DM p": number(row["dm_p"], ".3f"),
                "warnings": row["warnings"] if isinstance(row["warnings"], str) else "",
            }
        )
    return markdown(rows)


def scenarios(results: Path) -> str:
    """Give every model with a latent in every scenario: RMSE, direction accuracy, violations."""
    table = evaluations(results)
    rows = []
    for model in dict.fromkeys(table.index.get_level_values("model")):
        if (model, "s1", "all") not in table.index:
            continue
        row = {"variant": model}
        for name in SCENARIOS:
            got = table.loc[model, name, "all"]
            oracle = " (oracle)" if name in ("s1", "s2") else ""
            row[f"{name.upper()}{oracle}: RMSE"] = f"{got['rmse']:.4f}"
            row[f"{name.upper()} dir. %"] = f"{100 * got['direction_accuracy']:.1f}"
            row[f"{name.upper()} viol. %"] = f"{100 * got['violations']:.1f}"
        rows.append(row)
    return markdown(rows)


def report(results: Path) -> str:
    """Set the report's figures beside ours."""
    table = evaluations(results)
    rows = []
    for (model, name), stated in REPORT.items():
        got = table.loc[model, name, "all"]
        ours = (got["rmse"], 100 * got["direction_accuracy"], 100 * got["violations"], got["r2"])
        row = {"model": f"{model} {name.upper()}".strip()}
        formats = {"RMSE": ".4f", "direction %": ".1f", "violations %": ".1f", "R2": ".2f"}
        for (what, pattern), their, our in zip(formats.items(), stated, ours, strict=True):
            row[f"{what}: report"] = number(their, pattern)
            row[f"{what}: here"] = number(our, pattern)
        rows.append(row)
    return markdown(rows)


def calibration(results: Path) -> str:
    """Give violations (nominal 10 %) and mean width, raw and by calibrator."""
    table = evaluations(results)
    rows = []
    for model in dict.fromkeys(table.index.get_level_values("model")):
        row = {"model": model}
        for name in CALIBRATORS:
            key = (model, "" if name == "raw" else name, "all")
            got = table.loc[key] if key in table.index else None
            there = got is not None and not pd.isna(got["violations"])
            row[name] = f"{100 * got['violations']:.1f} % / {got['width']:.4f}" if there else "–"
        rows.append(row)
    return markdown(rows)


def searched(results: Path) -> str:
    """Give what a search found, best on validation first, and say what that is worth."""
    best, tried = pd.read_csv(results / "search_best.csv"), pd.read_csv(results / "search.csv")
    objectives = [name for name in best if f"{name}_sd" in best]
    keys = [name for name in tried if name.startswith(("model.", "training."))]
    settings = tried.drop_duplicates("row").set_index("row")[keys]
    rows = []
    for line in best.to_dict("records"):
        name = line["row"]
        row = {"on validation": f"**{name}**" if line["pick"] else name}
        row |= {key: f"{line[key]:#.4g} ± {line[f'{key}_sd']:.1g}" for key in objectives}
        for key in keys:
            value = settings.loc[name, key] if name in settings.index else None
            short = key.split(".", 1)[1]
            row[short] = value if isinstance(value, str) else number(value, ".3g")
        rows.append(row)
    said = (results / "search.txt").read_text().replace("|", "\\|")
    return f"{markdown(rows)}\n{said}"


def metrics(results: Path) -> pd.DataFrame:
    """Average every metric over tickers and seeds, in the order of the verdict."""
    table = pd.read_csv(results / "metrics.csv").drop(columns=["ticker", "seed"])
    order = pd.read_csv(results / "table.csv")["model"]
    return table.groupby("model").mean().loc[order]


def chosen(columns: dict[str, tuple[str, str]]) -> Callable[[Path], str]:
    """Make a block of some metrics: a column's name, its metric and its format."""

    def block(results: Path) -> str:
        table = metrics(results)
        table = table.reindex(columns=[metric for metric, _ in columns.values()])
        there = table.notna().any(axis=1)
        rows = []
        for model, values in table[there].iterrows():
            row = {"model": str(model)}
            rows.append(row | {name: number(values[key], form) for name, (key, form) in columns.items()})
        return markdown(rows)

    return block


def distributions(results: Path) -> str:
    """Give the forecast distributions as they come, best pinball loss first."""
    table = pd.read_csv(results / "distributions.csv")
    baselines = roles(results)
    rows = [
        {
            "model": named(row["model"], baselines),
            "pinball skill": number(100 * row["pinball_skill"], "+.1f") + " %",
            "DM p": number(row["dm_p"], ".3f"),
            "inside 90 %": number(row["coverage"], ".1%"),
            "on volatile days": number(row["volatile_coverage"], ".1%"),
            "width": number(row["width"], ".4f"),
            "CRPS": number(row["crps"], ".5f"),
            "log score, own density": number(row["log_score"], ".3f"),
            "log score, 9 quantiles": number(row["log_score_9_quantiles"], ".3f"),
            "below VaR 1 %": number(row["var1_hits"], ".2%"),
            "Kupiec rejects": number(row["var1_kupiec_rejects"], ".0%"),
            "below VaR 5 %": number(row["var5_hits"], ".2%"),
            "Christoffersen rejects": number(row["var5_christoffersen_rejects"], ".0%"),
        }
        for row in table[table["evaluation"] == "raw"].to_dict("records")
    ]
    return markdown(rows)


def roles(results: Path) -> set[str]:
    """Name the baselines of a sweep."""
    table = pd.read_csv(results / "table.csv")
    return set(table.loc[table["role"] == "baseline", "model"])


def named(model: str, baselines: set[str]) -> str:
    """Write a baseline in italics."""
    return f"*{model}*" if model in baselines else model


def tickers(results: Path) -> str:
    """Give the tests of a walk-forward on each ticker: the SPA test, then the confidence sets."""
    ability, sets = (pd.read_csv(results / f"{name}.csv") for name in ("ability", "confidence"))
    baselines = roles(results)
    rows = []
    for row in ability.to_dict("records"):
        cells = {key: number(p, ".3f") for key, p in row.items() if key != "reference"}
        rows.append({"": f"SPA against {row['reference']}", **cells})
    for row in sets.to_dict("records"):
        cells = {
            k: ("**{}**" if p > 0.05 else "{}").format(number(p, ".2f"))
            for k, p in row.items()
            if k != "model"
        }
        rows.append({"": named(row["model"], baselines), **cells})
    return markdown(rows)


def years(results: Path) -> str:
    """Give the skill against the first reference by regime and year, in percent."""
    baselines = roles(results)
    rows = []
    for row in pd.read_csv(results / "regimes.csv").to_dict("records"):
        cells = {key: number(100 * skill, "+.2f") for key, skill in row.items() if key != "model"}
        rows.append({"skill, %": named(row["model"], baselines), **cells})
    return markdown(rows)


def trading(results: Path) -> str:
    """Give what trading the sign would have earned, and what a trial of each model cost."""
    baselines = roles(results)
    cost = pd.read_csv(results / "cost.csv").set_index("model")
    rows = []
    for row in pd.read_csv(results / "trading.csv").to_dict("records"):
        paid = cost.loc[row["model"]] if row["model"] in cost.index else {}
        cells = {"model": named(row["model"], baselines)}
        cells |= {
            "epochs": number(paid.get("epochs"), ".0f"),
            "fit, s": number(paid.get("fit_seconds"), ".1f"),
        }
        cells |= {"traded a year": number(row["turnover"], ".0f"), "days long": number(row["long"], ".0%")}
        for basis in (0, 1, 5):
            cells[f"a year after {basis} bp"] = number(row[f"return_{basis}bp"], "+.1%")
        low, high = (number(row[f"over_hold_1bp_{end}"], "+.1%") for end in ("lo", "hi"))
        cells["less holding, 1 bp, 95 %"] = f"{low} to {high}" if cells["model"] != "buy and hold" else "–"
        rows.append(cells | {"Sharpe, 1 bp": number(row["sharpe_1bp"], ".2f")})
    return markdown(rows)


def probes(results: Path) -> str:
    """Give what a linear probe reads from the states: R2, the seeds' range, chance."""
    table = pd.read_csv(results / "latent_probes.csv")
    rows = []
    for variant, own in table.groupby("variant", sort=False):
        row = {"variant": str(variant)}
        for got in own.to_dict("records"):
            text = f"{got['r2']:+.2f} ({got['r2_lo']:+.2f} to {got['r2_hi']:+.2f}; {got['chance']:+.2f})"
            row[got["quantity"]] = f"**{text}**" if got["found"] > 0.5 else text
        rows.append(row)
    return markdown(rows)


def alignment(results: Path) -> str:
    """Give how alike the states of variants are; on the diagonal different seeds."""
    table = pd.read_csv(results / "latent_alignment.csv").rename(columns={"variant": "CKA"})
    rows = [
        {k: v if k == "CKA" else number(v, ".2f") for k, v in row.items()} for row in table.to_dict("records")
    ]
    return markdown(rows)


def said(name: str) -> Callable[[Path], str]:
    """Make a block of what a command has said in sentences."""
    return lambda results: "> " + (results / name).read_text().strip().replace("\n", "\n> ") + "\n"


DENSITY = {
    "test days": ("density/log_likelihood", ".3f"),
    "training days": ("train/log_likelihood", ".3f"),
    "validation days": ("val/log_likelihood", ".3f"),
    "ELBO": ("bound/elbo", ".3f"),
    "importance-weighted": ("bound/importance_weighted", ".3f"),
    "gap, at least": ("bound/gap", ".3f"),
}
RISK = {
    "covariance error": ("covariance/error", ".3f"),
    "correlation error": ("covariance/correlation_error", ".3f"),
    "risk, a year": ("portfolio/risk", ".2%"),
    "promised": ("portfolio/promised_risk", ".2%"),
    "leverage": ("portfolio/leverage", ".2f"),
}
GENERATED = {
    "told apart": ("generated/discriminative", "+.2f"),
    "told from training": ("generated/discriminative_train", "+.2f"),
    "forecast, return": ("generated/predictive_return", "+.1%"),
    "forecast, size": ("generated/predictive_size", "+.1%"),
    "Wasserstein": ("generated/wasserstein", ".3f"),
    "autocorrelation": ("generated/autocorrelation", ".3f"),
    "of squares": ("generated/square_autocorrelation", ".3f"),
    "skewness": ("generated/skewness", ".2f"),
    "kurtosis": ("generated/kurtosis", ".1f"),
    "cross-correlation": ("generated/cross_correlation", ".3f"),
    "nearest": ("generated/nearest_ratio", ".2f"),
    "remembered": ("generated/memorised", ".3f"),
}
IMPUTED = {
    "10 % hidden": ("test/hidden10/rmse", ".5f"),
    "30 % hidden": ("test/rmse", ".5f"),
    "50 % hidden": ("test/hidden50/rmse", ".5f"),
    "outside the 90 % interval": ("interval/violations", ".1%"),
}
GRADIENTS = {
    "reparameterised": ("gradient/reparameterised_variance", ".2e"),
    "score function, baseline": ("gradient/score_function_variance", ".2e"),
    "score function, plain": ("gradient/score_function_plain_variance", ".2e"),
}
YEAR = {
    "one year": ("test/rmse", ".4f"),
    "overlapping passes": ("test/overlap/rmse", ".4f"),
    "pass 1": ("test/pass1/rmse", ".4f"),
    "pass 2": ("test/pass2/rmse", ".4f"),
    "pass 3": ("test/pass3/rmse", ".4f"),
    "pass 3 / pass 1": ("test/degradation", ".2f"),
    "crisis": ("test/crisis/rmse", ".4f"),
    "normal": ("test/normal/rmse", ".4f"),
    "next day": ("test/next-day/rmse", ".4f"),
    "validation": ("val/rmse", ".4f"),
    "2008, in-sample": ("train/in-sample-crisis/rmse", ".4f"),
}
INTERVALS = {
    "outside, raw": ("interval/violations", ".1%"),
    "width, raw": ("interval/width", ".3f"),
    "outside, calibrated": ("interval/conformal/violations", ".1%"),
    "width, calibrated": ("interval/conformal/width", ".3f"),
    "Winkler, calibrated": ("interval/conformal/winkler", ".3f"),
    "CRPS": ("interval/crps", ".4f"),
    "energy score": ("interval/energy_score", ".3f"),
}
STRUCTURE = {
    "cointegrated, normal: generated": ("cointegration/generated/normal", ".0%"),
    "real": ("cointegration/real/normal", ".0%"),
    "crisis: generated": ("cointegration/generated/crisis", ".0%"),
    "real ": ("cointegration/real/crisis", ".0%"),
    "correlation distance": ("test/correlation_distance", ".3f"),
    "calendar arbitrage": ("arbitrage/generated/calendar_rate", ".2%"),
    "butterfly arbitrage": ("arbitrage/generated/butterfly_rate", ".2%"),
    "the data's own": ("arbitrage/real/butterfly_rate", ".2%"),
}
BLOCKS: dict[str, Callable[[Path], str]] = {
    "verdict": verdict,
    "scenarios": scenarios,
    "report": report,
    "calibration": calibration,
    "searched": searched,
    "density": chosen(DENSITY),
    "risk": chosen(RISK),
    "generated": chosen(GENERATED),
    "imputed": chosen(IMPUTED),
    "gradients": chosen(GRADIENTS),
    "year": chosen(YEAR),
    "intervals": chosen(INTERVALS),
    "structure": chosen(STRUCTURE),
    "distributions": distributions,
    "tickers": tickers,
    "years": years,
    "trading": trading,
    "probes": probes,
    "alignment": alignment,
    "said": said("verdict.txt"),
    "states": said("latent_space.txt"),
}


def block(found: re.Match[str]) -> str:
    """Fill one block; where its sweep has not been run here it stays as it is, and is named."""
    results = Path("results") / found[3]
    try:
        return found[1] + "\n" + BLOCKS[found[2]](results) + "\n" + found[4]
    except FileNotFoundError as error:
        sys.stderr.write(f"block {found[2]} {found[3]} stays as it was: no {error.filename}\n")
        return found[0]


def main() -> None:
    """Refresh one page."""
    page = DOCS / "studies" / f"{sys.argv[1]}.md"
    text = BLOCK.sub(block, page.read_text())
    page.write_text(text)
    for image in re.findall(r"\(\.\./images/(\w+)/([\w.+\-]+\.png)\)", text):
        target, drawn = DOCS / "images" / image[0], Path("results", *image)
        if drawn.is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(drawn, target / image[1])


if __name__ == "__main__":
    main()
