"""The plots of docs/benchmarks.md, drawn from what `benchmarks.growth` measured."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "openai2"

from matplotlib import pyplot as plt  # noqa: E402 - the drawing of SVG is chosen first

PLOTS = {
    "view": ("a request, by messages in view", "messages in view", "ms of CPU", 1e3),
    "past": ("a conversation with 20 messages in view, by its past", "events", "ms", 1e3),
    "store": ("the last 20 conversations, by conversations", "conversations", "ms", 1e3),
    "at-once": ("a request, by requests at once", "at once", "ms", 1e3),
}


def draw(others: dict[str, float], folder: Path) -> None:
    """A file a subject; those that were not measured are left out."""
    for subject, (title, across, up, scale) in PLOTS.items():
        lines: dict[str, list[tuple[int, float]]] = {}
        for name, value in others.items():
            parts = name.split("/")
            if parts[:2] == ["growth", subject]:
                lines.setdefault(parts[2], []).append((int(parts[3]), value * scale))
        if not lines:
            continue
        figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
        for label, points in lines.items():
            points.sort()
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
        axes.set(title=title, xlabel=across, ylabel=up, xscale="log", yscale="log")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        figure.savefig(folder / f"{subject}.svg", metadata={"Date": None})
        plt.close(figure)
