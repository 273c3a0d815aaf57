"""The demonstration's picture: the loss curve, and digits with what was read in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def save(
    path: Path, losses: Sequence[float], images: np.ndarray, read: np.ndarray, labels: np.ndarray
) -> None:
    """Write a PNG: losses by step above, one row of digits `(n, 64)` with predictions below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, len(images), height_ratios=(2.4, 1))
    curve = figure.add_subplot(grid[0, :])
    curve.plot(losses, linewidth=1)
    curve.set_yscale("log")
    curve.set_xlabel("step")
    curve.set_ylabel("cross-entropy of the batch")
    curve.set_title("Training a classifier of handwritten digits")
    for i, (image, digit, label) in enumerate(zip(images, read, labels, strict=True)):
        cell = figure.add_subplot(grid[1, i])
        cell.imshow(image.reshape(8, 8), cmap="gray_r", interpolation="nearest")
        cell.set_axis_off()
        cell.set_title(str(digit), color="black" if digit == label else "red")
    figure.savefig(path, dpi=110)
