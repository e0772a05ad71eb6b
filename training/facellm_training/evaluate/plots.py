"""A report's plots as PNG: scores with intervals, reliability diagrams, groups, confusion."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

#: Okabe and Ito's colours: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
_DPI = 110
#: A bin of fewer answers shows chance.
LEAST_BIN = 10

#: Column → (share, low, high, n).
Cells = Mapping[str, tuple[float, float, float, int]]


def score_plot(rows: Sequence[tuple[str, Cells]], title: str) -> bytes:
    """One line a row, one point a column with its 95 % interval, in per cent."""
    columns = list(dict.fromkeys(column for _, cells in rows for column in cells))
    height = 1.3 + len(rows) * (0.16 + 0.15 * len(columns))
    figure = Figure(figsize=(8.5, height), layout="constrained")
    axes = figure.subplots()
    for place, column in enumerate(columns):
        shift = (place - (len(columns) - 1) / 2) * 0.7 / max(1, len(columns))
        known = [(at + shift, cells[column]) for at, (_, cells) in enumerate(rows) if column in cells]
        values = np.array([[100 * cell[0], 100 * cell[1], 100 * cell[2]] for _, cell in known])
        spread = np.clip([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]], 0, None)
        axes.errorbar(
            values[:, 0], [at for at, _ in known], xerr=spread, fmt="o", ms=4, capsize=2,
            color=COLOURS[place % len(COLOURS)], label=column,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("right, %")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower center", ncols=min(4, len(columns)), frameon=False)
    return _png(figure)


def reliability_plot(curves: Mapping[str, Sequence[Sequence[float]]], title: str) -> bytes:
    """``curves``: "model" or "model, how" → (mean confidence, accuracy, number) of each bin.

    A point's area follows the number. One colour a model; the line leaves out bins of fewer than ``LEAST_BIN``, whose
    points are pale.
    """
    figure = Figure(figsize=(5.2, 5.2 + 0.2 * math.ceil(len(curves) / 2)), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="#888888", lw=1, ls="--")
    models = list(dict.fromkeys(label.rpartition(", ")[0] or label for label in curves))
    seen: set[str] = set()
    for label, bins in curves.items():
        model = label.rpartition(", ")[0] or label
        values = np.array(bins, float).reshape(-1, 3)
        colour = COLOURS[models.index(model) % len(COLOURS)]
        second = model in seen
        seen.add(model)
        many = values[:, 2] >= LEAST_BIN
        axes.plot(
            100 * values[many, 0], 100 * values[many, 1], color=colour, lw=1.4, ls="--" if second else "-", label=label
        )
        area = 10 + 130 * values[:, 2] / values[:, 2].sum()
        alpha: Any = np.where(many, 0.85, 0.25)
        axes.scatter(
            100 * values[:, 0], 100 * values[:, 1], s=area, alpha=alpha, edgecolors=colour,
            facecolors="white" if second else colour, zorder=3,
        )  # fmt: skip
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 101)
    axes.set_aspect("equal")
    axes.set_xlabel("how sure the model is, %")
    axes.set_ylabel("how often it is right, %")
    axes.grid(alpha=0.3)
    axes.set_title(title, loc="left")
    axes.text(0.99, 0.015, f"pale: fewer than {LEAST_BIN} answers", transform=axes.transAxes, ha="right", fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _png(figure)


def confusion_plot(table: Sequence[Sequence[int]], names: Sequence[str], title: str) -> bytes:
    """``table[truth][answer]`` in numbers of pictures; colours are shares of each row."""
    counts = np.array(table, float)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = 1.8 + 0.55 * len(names)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "black"
        axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answered")
    axes.set_ylabel("label")
    axes.set_title(title, loc="left")
    return _png(figure)


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI)
    return out.getvalue()
