"""Load the best model of a sweep from MLflow and forecast the next day."""

import mlflow

import farm
from farm.data.door import load_panel

farm.run("ablation", quick=True, tickers=["AAPL"], settings={"training.epochs": 2})

mlflow.set_tracking_uri("sqlite:///mlflow.db")
(sweep,) = mlflow.search_runs(
    experiment_names=["ablation"], filter_string="tags.`farm.role` = 'sweep'", output_format="list"
)
model = mlflow.pyfunc.load_model(f"runs:/{sweep.info.run_id}/model")

bars = load_panel().select(("AAPL", "SP500"), end="2020-11-20").frame().groupby("ticker").tail(60)
print(model.predict(bars.assign(date=bars["date"].dt.strftime("%Y-%m-%d"))).to_string(index=False))
