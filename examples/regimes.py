"""Calm and wild markets since 1990, told day by day from what was known that day (filtered, not smoothed)."""

import matplotlib.pyplot as plt
import numpy as np
from hmmlearn.hmm import GaussianHMM

from farm.base.normal import NormalRegimes
from farm.data.door import load_closes

closes = load_closes("sp500_20_adjclose")["SP500"]
returns = 100 * np.diff(np.log(closes.to_numpy()))[:, None]
dates = closes.index.to_numpy()[1:]

taught = dates < np.datetime64("2007-01-01")  # nothing later is learnt from
chain = GaussianHMM(2, covariance_type="full", n_iter=200, random_state=0).fit(returns[taught])
calm = np.argsort(chain.covars_[:, 0, 0])
law = NormalRegimes(
    chain.startprob_[calm], chain.transmat_[np.ix_(calm, calm)], chain.means_[calm], chain.covars_[calm]
)
wild = law.filtered(returns)[1][:, 1]
for year in (2008, 2017, 2020):
    share = (wild[dates.astype("datetime64[Y]").astype(int) + 1970 == year] > 0.5).mean()
    print(f"{year}: {share:.0%} of the days look wild")

figure, axes = plt.subplots(figsize=(10, 3.2), layout="constrained")
axes.fill_between(dates, 0, wild, color="#d55e00", alpha=0.5, linewidth=0, step="mid")
axes.axvline(np.datetime64("2007-01-01"), color="black", linewidth=0.8)
axes.set_ylabel("filtered chance of the wild regime")
price = axes.twinx()
price.semilogy(dates, closes.to_numpy()[1:], color="#0173b2", linewidth=0.8)
price.set_ylabel("S&P 500")
figure.savefig("regimes.png", dpi=120)
