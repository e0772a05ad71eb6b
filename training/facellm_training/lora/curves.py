"""Draws the course of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw_curves(path: Path, rows: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> None:
    """Loss by step (trained and held out), closed questions by step, and the share of the highest rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    steps, loss = np.array([row["step"] for row in rows]), np.array([row["loss"] for row in rows])
    window = max(1, len(loss) // 20)
    left.plot(steps, loss, color="#9db4d6", linewidth=1, label="a step")
    if window > 1:
        smooth = np.convolve(loss, np.ones(window) / window, "valid")
        left.plot(steps[window - 1 :], smooth, color="#1d4ed8", linewidth=2, label=f"mean of {window} steps")
    _points(left, evaluations, "loss", "held out", "#c2410c")
    left.set(title="Loss of the answers' tokens", ylabel="nats a token")
    _points(middle, evaluations, "accuracy", "right", "#1d4ed8")
    _points(middle, evaluations, "probability", "probability of the right key", "#c2410c")
    middle.set(title="Held-out closed questions", ylim=(-0.03, 1.05))  # points at 0 and 1 are seen whole
    if not any("accuracy" in row for row in evaluations):
        middle.text(0.5, 0.5, "no closed questions held out", ha="center", va="center", transform=middle.transAxes)
    right.plot(steps, [row["share_of_rate"] for row in rows], color="#1d4ed8", linewidth=2)
    right.set(title="Learning rate, share of the highest", ylim=(-0.03, 1.05))
    for axis in (left, middle, right):
        axis.set(xlabel="step")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _points(axis: Any, evaluations: list[dict[str, Any]], name: str, label: str, colour: str) -> None:
    found = [(row["step"], row[name]) for row in evaluations if name in row]
    if found:
        axis.plot(*zip(*found, strict=True), marker="o", markersize=4, color=colour, linewidth=1.5, label=label)
