"""What all parts share: timing, rows of the table, the machine in words, the command line."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

LIBRARIES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "scikit-learn",
    "openTSNE",
    "altair",
    "vegafusion",
    "jupyterlab",
    "numpy",
)
ONCE_SECONDS = 60  # what takes longer is measured once


@dataclass(frozen=True)
class Spread:
    """Repeated measurements: median and range."""

    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return (
            f"{self.middle:.3g}"
            if len(self.values) == 1
            else f"{self.middle:.3g} ({low:.3g}-{high:.3g})"
        )


@dataclass
class Row:
    """One line of the table.

    Attributes:
        ours, theirs: what was measured, in `unit`; smaller is better.
        floor, goal: bounds on the ratio, which is theirs / ours ("times as fast") or, with
            `at_most`, ours / theirs.
        claims: further conditions, each with whether it held.
    """

    what: str
    against: str
    ours: Spread
    theirs: Spread
    unit: str
    floor: float | None
    goal: float | None
    at_most: bool = False
    claims: dict[str, bool] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        faster = self.theirs.middle / self.ours.middle
        return 1 / faster if self.at_most else faster

    def reaches(self, bound: float | None) -> bool:
        return bound is None or (self.ratio <= bound if self.at_most else self.ratio >= bound)

    @property
    def holds(self) -> bool:
        return self.reaches(self.floor) and all(self.claims.values())

    def bound(self, value: float | None) -> str:
        return "" if value is None else f"{'at most ' if self.at_most else ''}{value:g}"

    def markdown(self) -> str:
        ratio = f"{self.ratio:.2f}" if self.at_most or self.ratio < 10 else f"{self.ratio:.0f}"
        reached = "" if self.goal is None else "yes" if self.reaches(self.goal) else "no"
        claims = "; ".join(
            claim if held else f"NOT: {claim}" for claim, held in self.claims.items()
        )
        cells = (
            self.what,
            self.against,
            f"**{ratio}**",
            self.bound(self.floor),
            self.bound(self.goal),
            reached,
        )
        return (
            "| " + " | ".join((*cells, f"{self.ours} / {self.theirs} {self.unit}", claims)) + " |"
        )


HEADER = (
    "| what | against | ratio | floor | goal | goal reached | measured | also |\n"
    "|---|---|---|---|---|---|---|---|"
)


def timed(
    call: Callable[[], Any], repeats: int = 5, *, before: Callable[[], Any] | None = None
) -> Spread:
    """Seconds that `call` takes; measured only once if that is over a minute.

    `before` runs ahead of each call and is not timed.
    """
    values: list[float] = []
    while len(values) < repeats:
        if before is not None:
            before()
        start = time.perf_counter()
        call()
        values.append(time.perf_counter() - start)
        if values[0] > ONCE_SECONDS:
            break
    return Spread(tuple(values))


def machine() -> str:
    """Processor, cores, memory, systems and versions, in one paragraph."""
    import psutil
    import torch

    from helpers.device import pick_device, use_threads

    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        name = next(
            (
                line.split(":")[1].strip()
                for line in information.read_text().splitlines()
                if line.startswith("model name")
            ),
            name,
        )
    libraries = ", ".join(f"{name} {version(name).split('+')[0]}" for name in LIBRARIES)
    gigabytes = psutil.virtual_memory().total / 2**30
    return (
        f"{name}, {psutil.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}, "
        f"device {pick_device()}, {use_threads()} threads of torch "
        f"({torch.backends.cpu.get_cpu_capability()}), {date.today().isoformat()}; "
        f"Python {platform.python_version()}, {libraries}"
    )


def part(run: Callable[[], list[Row]]) -> int:
    """Command line of one part: print its rows, and write them to the file `BENCHMARK_ROWS`.

    Returns:
        The exit status: 1 if a row misses its floor.
    """
    print(machine(), flush=True)
    rows = run()
    print(HEADER, *(row.markdown() for row in rows), sep="\n", flush=True)
    if "BENCHMARK_ROWS" in os.environ:
        Path(os.environ["BENCHMARK_ROWS"]).write_text(
            json.dumps([asdict(row) for row in rows]), encoding="utf-8"
        )
    missed = [row.what for row in rows if not row.holds]
    if missed:
        print("below the floor: " + "; ".join(missed), file=sys.stderr)
    return 1 if missed else 0


def read_rows(path: Path) -> list[Row]:
    """Rows that a part wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        Row(
            **{
                **row,
                "ours": Spread(tuple(row["ours"]["values"])),
                "theirs": Spread(tuple(row["theirs"]["values"])),
            }
        )
        for row in rows
    ]
