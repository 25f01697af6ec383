"""All programs, several times over, floor and ours by turns; then the table, its JSON and the plots.

`python -m benchmarks.run [--passes N] [--only PROGRAM ...] [--into FOLDER]`
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report, server, table
from benchmarks.harness import FOLDER, URL

#: Programs whose preparation or whose work takes long, and says the same each time.
ONCE = {"space": 1, "verify": 2, "growth": 1, "peers": 1, "concurrent": 3}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=3, help="how often each program is run")
    parser.add_argument("--only", nargs="*", default=[*table.PROGRAMS, "growth", "peers"])
    parser.add_argument("--into", type=Path, default=Path("build/benchmarks"), help="where results go")
    parser.add_argument("--add", action="store_true", help="to what was measured before, which is kept")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    for old in options.into.glob("*.pyperf.json"):
        if old.name.split(".")[0] in options.only and not options.add:
            old.unlink()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="openai2-bench-") as folder, server.running() as url:
        environment = {**os.environ, FOLDER: folder, URL: url}
        for number in range(options.passes):
            for program in options.only:
                if number >= ONCE.get(program, options.passes):
                    continue
                sys.stderr.write(f"{time.monotonic() - started:5.0f} s  pass {number + 1}: {program}\n")
                done = subprocess.run(
                    [
                        *(sys.executable, "-m", f"benchmarks.{program}", "--quiet"),
                        *("--append", str(options.into / f"{program}.pyperf.json")),
                    ],
                    env=environment,
                    check=False,
                )
                if done.returncode:
                    sys.stderr.write(f"        {program} ended with status {done.returncode}\n")
    report.write(options.into)


if __name__ == "__main__":
    main()
