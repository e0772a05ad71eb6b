"""Draws the loss curves of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def draw_curves(out: Path) -> Path:
    """Read ``image.jsonl`` and ``language.jsonl`` below ``out``; write ``curves.png`` there."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, (name, title) in zip(
        axes, (("image", "Image stage: attribute heads"), ("language", "Language stage: answers")), strict=True
    ):
        rows = [json.loads(line) for line in (out / f"{name}.jsonl").open(encoding="utf-8")]
        steps, loss = np.array([row["step"] for row in rows]), np.array([row["loss"] for row in rows])
        axis.plot(steps, loss, color="#9db4d6", linewidth=1, label="mean of 20 steps")
        if len(loss) >= 5:
            smooth = np.convolve(loss, np.ones(5) / 5, "valid")
            axis.plot(steps[2:-2], smooth, color="#1d4ed8", linewidth=2, label="mean of 100 steps")
        axis.set(title=title, xlabel="step", ylabel="loss")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    path = out / "curves.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
