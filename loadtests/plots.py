"""Draws the plots of a saved run; runs in an environment of its own (matplotlib)."""

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

OURS, OTHERS = "#1f6feb", "#9aa4b2"


def draw(document, path, key, title, size, loop="closed"):
    """One horizontal bar per server, the best on top, on a logarithmic scale."""
    found = {}
    for cell in document["cells"]:
        if (cell["workload"], cell["loop"], cell["size"]) == ("small", loop, size):
            found.setdefault(cell["server"], []).append(cell[key])
    bars = sorted(((median(values), name) for name, values in found.items()), key=lambda b: b[0])
    if key != "requests_per_s":
        bars.reverse()
    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.4 * len(bars)))
    names = [name for _, name in bars]
    values = [value for value, _ in bars]
    colours = [OURS if name.startswith("headgate") else OTHERS for name in names]
    axes.barh(names, values, color=colours)
    axes.set_xscale("log")
    axes.set_title(title, fontsize=10, loc="left")
    for at, value in enumerate(values):
        text = f" {value:,.0f}" if value >= 100 else f" {value:.2f}"
        axes.text(value, at, text, va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(file):
    plt.rcParams["svg.hashsalt"] = "headgate"  # the same figures make the same file
    document = json.loads(file.read_text())
    for name, key, title, size in (
        ("throughput", "requests_per_s", "requests/s, small JSON, 32 connections (log)", 32),
        ("latency", "p50_ms", "p50 in ms, small JSON, 1 connection (log)", 1),
        (
            "cost",
            "cpu_s_per_1000",
            "CPU s per 1,000 requests, 32 connections (log)",
            32,
        ),
    ):
        path = file.with_name(f"{file.stem}-{name}.svg")
        draw(document, path, key, title, size)
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
