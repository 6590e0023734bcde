"""What a person sees in a browser: the MLflow UI on a sweep, and the report page."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from farm.views import TRIALS, VERDICT, address
from tests.e2e.conftest import Sweep

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="there is no chromium to look with: apt-get install chromium"
    ),
]
VARIANTS = ["LSTM-Raw", "LSTM-OHLCV", "LSTM-Feat", "Transformer-Feat"]
ROWS = [
    *VARIANTS, "linear", "econometric", "zero", "historical-mean", "persistence", "ridge",
    "gradient-boosting",
]  # fmt: skip
WAIT = 120_000  # milliseconds; a busy machine is slow to draw


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the screenshots: where FARM_SCREENSHOTS says, or a passing one."""
    folder = Path(os.environ.get("FARM_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def ui(quick_sweep: Sweep, serve) -> Iterator[str]:
    with serve(
        ["ui", "--backend-store-uri", quick_sweep.uri, "--workers", "1"], "health", quick_sweep.folder
    ) as url:
        yield url


@pytest.fixture
def tab(chromium) -> Iterator[object]:
    context = chromium.new_context(viewport={"width": 1500, "height": 900})
    # The panel of an assistant opens on a first visit, over a third of the page.
    context.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    page = context.new_page()
    page.set_default_timeout(WAIT)
    yield page
    context.close()


def run_link(tab, name: str):
    return tab.get_by_role("link", name=name, exact=True).first


def test_the_experiment_opens_on_variants_beside_baselines(quick_sweep: Sweep, ui, tab, pictures) -> None:
    tab.goto(f"{ui}/#/experiments/1/runs?workflowType=machine_learning")
    for name in (*ROWS, "ablation sweep"):
        run_link(tab, name).wait_for()
    ranked = pd.read_csv(quick_sweep.folder / "results" / "ablation" / "table.csv")["model"].tolist()
    shown = [name for name in tab.get_by_role("link").all_inner_texts() if name in ROWS]
    assert shown == ranked, "best first, as in the verdict"
    tab.screenshot(path=pictures / "mlflow-runs.png")


def test_the_view_of_the_verdict_has_the_figures_in_a_table(ui, tab, pictures) -> None:
    tab.goto(address(ui, "1", VERDICT, "TABLE"))
    for name in ROWS:
        run_link(tab, name).wait_for()
    for column in ("ci/lo", "ci/hi", "dm/p", "test/rmse"):
        tab.get_by_text(column, exact=True).first.wait_for()
    assert tab.get_by_text("11 matching runs").is_visible()
    tab.wait_for_timeout(1000)
    tab.screenshot(path=pictures / "mlflow-table.png")


def test_charts_have_a_bar_for_each_row_and_a_curve_for_each_trial(ui, tab, pictures) -> None:
    tab.goto(address(ui, "1", VERDICT, "CHART"))
    tab.get_by_text("vs/linear_skill_percent", exact=True).first.wait_for()
    tab.locator(".plotly .bars path").first.wait_for()
    tab.wait_for_timeout(1500)
    assert tab.locator(".plotly").first.locator(".bars path").count() == len(ROWS)
    tab.screenshot(path=pictures / "mlflow-charts.png")
    tab.goto(address(ui, "1", TRIALS, "CHART"))
    tab.get_by_text("val/loss", exact=True).first.wait_for()
    tab.locator(".plotly .scatterlayer .js-line").first.wait_for()
    tab.wait_for_timeout(1500)
    curves = tab.locator(".plotly").first.locator(".js-line")
    assert curves.count() >= 2 * len(VARIANTS)  # two tickers; the UI may draw a line and its outline
    colours = curves.evaluate_all("lines => lines.map(line => getComputedStyle(line).stroke)")
    assert len(set(colours)) == len(VARIANTS), "runs of a variant have one colour"
    tab.screenshot(path=pictures / "mlflow-curves.png")


def test_rows_are_compared_side_by_side(ui, tab, pictures) -> None:
    tab.goto(address(ui, "1", VERDICT, "TABLE"))
    run_link(tab, "persistence").wait_for()
    tab.get_by_label("Select all runs").click()
    tab.get_by_role("button", name="Compare").click()
    tab.get_by_text("Comparing 11 Runs").first.wait_for()
    for name in ("linear", "LSTM-Raw"):
        tab.get_by_text(name, exact=True).first.wait_for()
    tab.wait_for_timeout(1500)
    tab.screenshot(path=pictures / "mlflow-compare.png")


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light"), ("phone-dark", 390, "dark")],
)
def test_the_report_page_is_whole_in_both_themes_and_on_a_phone(
    name, width, scheme, quick_sweep: Sweep, chromium, pictures
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((quick_sweep.folder / "results" / "ablation" / "report.html").as_uri())
    page.locator(".plotly .main-svg").first.wait_for(timeout=WAIT)
    page.wait_for_timeout(1500)
    page.screenshot(path=pictures / f"report-{name}.png", full_page=True)
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (light > 128) == (scheme == "light")
    text = page.inner_text("main")
    for part in ("Ranking", "Learning curves", "Calibration", "Tried and failed", "Cost", "Repeat it", *ROWS):
        assert part in text, part
    context.close()
