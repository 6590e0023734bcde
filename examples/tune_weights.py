"""Search the weights of a loss with Optuna, and see what the best of all that was tried is worth."""

import farm

outcome = farm.run(
    "weights",
    study="forecast",
    quick=True,
    samples=2,
    samplers=["random"],
    settings={"training.epochs": 1},
    tickers=["AAPL"],
)
print(outcome.sentence)
