"""A first sweep: two stocks, four networks and seven baselines, and the verdict as a picture."""

import matplotlib.pyplot as plt

import farm

outcome = farm.run("ablation", quick=True, settings={"training.epochs": 2})
print(outcome.sentence)

table = outcome.table[outcome.table["model"] != "persistence"].iloc[::-1]  # far off to the left
skill = 100 * table["linear_rmse_skill"]
low, high = skill - 100 * table["linear_rmse_skill_lo"], 100 * table["linear_rmse_skill_hi"] - skill
colours = ["#0173b2" if role == "variant" else "#8c8c8c" for role in table["role"]]
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.errorbar(skill, table["model"], xerr=[low, high], fmt="none", ecolor=colours)
axes.scatter(skill, table["model"], color=colours)
axes.axvline(0, color="black", linewidth=0.8)
axes.set_xlabel("skill against linear regression, % of RMSE, with 95 % interval")
figure.savefig("first_sweep.png", dpi=120)
