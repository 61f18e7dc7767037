"""All parts, each in a process of its own: `python -m benchmarks [--store] [part ...]`.

Exit status 1 when a ratio is below its floor or a claim does not hold. `--store` writes the table
into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers import PROJECT_ROOT

from .harness import HEADER, machine, read_rows

PARTS = ("imports", "tsne", "cde", "query", "token_map", "memory", "growth")
README = PROJECT_ROOT / "benchmarks" / "README.md"
START, END = "<!-- benchmarks -->", "<!-- end of benchmarks -->"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument(
        "--store", action="store_true", help="write the table into benchmarks/README.md"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.store and options.parts:
        parser.error("--store needs one run of all parts")
    start, rows, failed = time.perf_counter(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.parts or PARTS:
            print(f"\n== {name}", flush=True)
            path = Path(folder) / f"{name}.json"
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}"],
                cwd=PROJECT_ROOT,
                env={**os.environ, "BENCHMARK_ROWS": str(path)},
            )
            if done.returncode:
                failed.append(name)
            if path.is_file():
                rows += read_rows(path)
    table = "\n".join([HEADER, *(row.markdown() for row in rows)])
    minutes = f"{(time.perf_counter() - start) / 60:.0f} minutes in all"
    print(f"\n{table}\n\n{machine()}; {minutes}")
    if options.store and not failed:
        text = README.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        page = f"{before}{START}\n{table}\n\n{machine()}; {minutes}.\n{END}{after}"
        README.write_text(page, encoding="utf-8", newline="\n")
    if failed:
        print("not reached, or not run to the end: " + ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
