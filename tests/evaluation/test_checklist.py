"""The plan's checklist on hand-made numbers."""

import pytest

from farm.evaluation.checklist import (
    CHECKLIST,
    Criterion,
    checklist_metrics,
    checklist_text,
    gates,
    hold,
    overall,
)

ROW = Criterion("x", "0", "m", "less", 0.15, doubt=0.13, red=0.18)
SHARE = Criterion("y", "0", "n", "more", 0.55, doubt=0.60, red=0.45)


@pytest.mark.parametrize(
    ("criterion", "value", "verdict"),
    [
        (ROW, 0.12, "pass"),
        (ROW, 0.13, "pass"),
        (ROW, 0.14, "refine"),  # within the limit, and in doubt
        (ROW, 0.15, "refine"),
        (ROW, 0.17, "refine"),
        (ROW, 0.19, "fall back"),
        (ROW, None, "not measured"),
        (ROW, float("nan"), "not measured"),
        (SHARE, 0.65, "pass"),
        (SHARE, 0.57, "refine"),
        (SHARE, 0.50, "refine"),
        (SHARE, 0.40, "fall back"),
        (Criterion("z", "0", "m", "less", 1.5), 9.0, "refine"),  # the plan names no red flag
    ],
)
def test_each_side_of_each_limit(criterion, value, verdict):
    assert criterion.judge(value) == verdict


def test_every_limit_stands_on_the_right_side_of_its_red_flag():
    for criterion in CHECKLIST:
        sign = 1 if criterion.better == "less" else -1
        ordered = [criterion.stretch, criterion.doubt, criterion.limit, criterion.red]
        known = [sign * value for value in ordered if value is not None]
        assert known == sorted(known), criterion.name
    assert len({(c.name, c.section) for c in CHECKLIST}) == len(CHECKLIST)


def test_the_worst_verdict_counts():
    assert overall(hold({"m": 0.1}, (ROW, SHARE))) == "pass"
    assert overall(hold({"m": 0.1, "n": 0.5}, (ROW, SHARE))) == "refine"
    assert overall(hold({"m": 0.3, "n": 0.5}, (ROW, SHARE))) == "fall back"
    assert overall(hold({}, (ROW, SHARE))) == "not measured"


def test_the_plans_numbers():
    """Some that anybody can look up in the plan."""
    limits = {(c.metric, c.section): c.limit for c in CHECKLIST}
    assert limits["phase1/val/rmse", "6.1"] == 0.025
    assert limits["phase4/train/rmse", "6.1"] == 0.08
    assert limits["phase4/train/rmse", "13.1"] == 0.10  # the plan contradicts itself
    assert limits["test/pass1/rmse", "6.2"] == 0.10
    assert limits["test/rmse", "13.2"] == 0.15
    rmse = {c.section: c for c in CHECKLIST if c.metric == "test/rmse"}
    # 0.16 calls for refinement in one table and for falling back in the other.
    assert rmse["6.2"].judge(0.16) == "refine"
    assert rmse["13.2"].judge(0.16) == "fall back"


def test_gates_are_decided_from_their_phase_alone():
    first, second = gates("phase 2"), gates("phase 3")
    assert [c.metric for c in first] == ["phase2/train/rmse"]
    assert [c.metric for c in second] == ["phase3/val/degradation"]
    assert overall(hold({"phase2/train/rmse": 0.069}, first)) == "pass"
    assert overall(hold({"phase3/val/degradation": 1.6}, second)) == "refine"


def test_counts_and_text():
    metrics = {"phase2/train/rmse": 0.2, "test/rmse": 0.16, "phase1/val/kl": 3.0}
    counts = checklist_metrics(metrics)
    assert sum(counts.values()) == len(CHECKLIST)
    assert counts["checklist/passed"] == 1  # the KL of phase 1
    text = checklist_text(metrics)
    assert text.startswith("fall back: 1 passed")
    assert "Gate 1: in-sample RMSE at H=90 (7.3): 0.2, limit <= 0.07" in text
    # A baseline has no phases, so it is held to nothing.
    assert checklist_metrics({"test/rmse": 0.16}) == {}
    assert checklist_text({"test/rmse": 0.16}) == ""
