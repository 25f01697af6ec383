"""From pyperf's files to the table: medians over all values, the ratio of a pass, and how it varies.

`python -m benchmarks.report FOLDER` makes results.json, table.md and the plots of what lies there.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import pyperf

from benchmarks import table

#: By name: the unit, and the values of each pass.
Measured = dict[str, tuple[str, list[list[float]]]]


def read(folder: Path) -> Measured:
    """All benchmarks in the folder."""
    found: Measured = {}
    for path in sorted(folder.glob("*.pyperf.json")):
        suite: Any = pyperf.BenchmarkSuite.load(str(path))
        for benchmark in suite.get_benchmarks():
            passes = [list(run.values) for run in benchmark.get_runs() if run.values]
            found[benchmark.get_name()] = benchmark.get_unit(), passes
    return found


def _median(passes: list[list[float]]) -> float:
    return median(value for values in passes for value in values)


def _ratios(row: table.Row, ours: list[list[float]], floor: list[list[float]]) -> list[float]:
    """The ratio of each pass."""
    pairs = zip(ours, floor, strict=False)
    return [median(b) / median(a) if row.faster else median(a) / median(b) for a, b in pairs]


def compare(measured: Measured) -> list[dict[str, Any]]:
    """A line a row: floor, ours, ratio and whether the target is met."""
    lines: list[dict[str, Any]] = []
    for row in table.ROWS:
        line: dict[str, Any] = {"what": row.what, "beside": row.beside, "target": row.target}
        line["faster"] = row.faster
        lines.append(line)
        if row.ours not in measured or (row.floor is not None and row.floor not in measured):
            line["note"] = "not measured"
            continue
        unit, ours = measured[row.ours]
        line |= {"unit": unit, "ours": _median(ours)}
        shown = line["ours"]
        if row.floor is not None:
            floor = measured[row.floor][1]
            ratios = _ratios(row, ours, floor)
            shown = median(ratios)  # of a pass, what is compared was measured within the same minute
            line |= {"floor": _median(floor), "ratio": shown, "from": min(ratios), "to": max(ratios)}
        if row.target is not None:
            line["met"] = shown >= row.target if row.faster else shown <= row.target
    return lines


def _amount(value: float, unit: str) -> str:
    if unit == "byte":
        return f"{value / 2**20:.1f} MiB" if value > 2**20 else f"{value:.0f} B"
    for name, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value / 1e-6:.2g} µs"


def markdown(lines: list[dict[str, Any]]) -> str:
    """The table for people."""
    text = ["| what | beside | floor | ours | ratio | (passes) | wanted | |", "| --- " * 8 + "|"]
    for line in lines:
        wanted = ""
        if line["target"] is not None:
            sign = "≥" if line["faster"] else "≤"
            least = line["target"]
            target = f"{least:g} ×" if line["beside"] else _amount(least, line.get("unit", "second"))
            wanted = f"{sign} {target}"
        if "note" in line:
            cells = [line["what"], line["beside"], "", line["note"], "", "", wanted, ""]
        else:
            met = {True: "yes", False: "**no**", None: ""}[line.get("met")]
            cells = [
                *(line["what"], line["beside"]),
                _amount(line["floor"], line["unit"]) if "floor" in line else "",
                _amount(line["ours"], line["unit"]),
                f"{line['ratio']:.2g} ×" if "ratio" in line else "",
                f"{line['from']:.2g} … {line['to']:.2g}" if "ratio" in line else "",
                *(wanted, met),
            ]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def machine() -> dict[str, str]:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    packages: dict[str, str] = {}
    for name in ("openai", "msgspec", "click", "llm", "openai-agents", "eventsourcing", "pyperf"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": f"{os.cpu_count()} × {model}",
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        **packages,
        "day": datetime.now(timezone.utc).date().isoformat(),
    }


def write(folder: Path) -> None:
    """results.json, table.md and the plots, into the folder; the table to standard output too."""
    measured = read(folder)
    lines = compare(measured)
    others = {name: _median(passes) for name, (_, passes) in measured.items() if "/" in name}
    results = {"machine": machine(), "rows": lines, "others": others}
    (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    told = ", ".join(f"{name} {value}" for name, value in machine().items())
    text = f"{markdown(lines)}\n{told}\n"
    peers = peers_table(others)
    if peers:
        text += f"\n{peers}"
    (folder / "table.md").write_text(text, "utf-8")
    sys.stdout.write(text)
    try:
        from benchmarks import plot
    except ImportError as missing:
        sys.stderr.write(f"no plots: {missing}\n")
    else:
        plot.draw(others, folder)


def peers_table(others: dict[str, float]) -> str:
    """Peers, a column a task: how many times what openai2 takes."""
    tasks = sorted({name.split("/")[1] for name in others if name.startswith("peers/")})
    who = sorted({name.split("/")[2] for name in others if name.startswith("peers/")})
    if not tasks:
        return ""
    text = [f"| | {' | '.join(tasks)} |", "| --- " * (len(tasks) + 1) + "|"]
    for peer in who:
        cells = [
            _amount(others[f"peers/{task}/{peer}"], "second") if f"peers/{task}/{peer}" in others else ""
            for task in tasks
        ]
        text.append(f"| {peer} | {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
