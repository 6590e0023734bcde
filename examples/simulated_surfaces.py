"""A year of implied-volatility surfaces, simulated on the real returns of 2008, free of static arbitrage."""

import matplotlib.pyplot as plt
import numpy as np

from farm.data.simulate import simulate

surfaces = simulate().surfaces
year = (surfaces.dates >= np.datetime64("2008-01-02")) & (surfaces.dates <= np.datetime64("2008-12-31"))
dates, iv = surfaces.dates[year], surfaces.iv[year].astype(float)
print(f"{len(dates)} surfaces of {iv.shape[1]} maturities x {iv.shape[2]} strikes, {surfaces.source}")

figure, (level, smile) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for i, years in enumerate(surfaces.maturities):
    level.plot(dates, 100 * iv[:, i, 2], color=plt.cm.viridis(i / 4), label=f"{12 * years:.0f} months")
level.set_ylabel("implied volatility at the money, %")
level.legend(frameon=False)
for day, colour in (("2008-07-01", "#0173b2"), ("2008-10-10", "#d55e00")):
    row = int(np.searchsorted(dates, np.datetime64(day)))
    smile.plot(surfaces.strikes, 100 * iv[row, 1], "o-", color=colour, label=str(dates[row]))
smile.set_xlabel("strike / spot, three months")
smile.legend(frameon=False)
figure.savefig("simulated_surfaces.png", dpi=120)
