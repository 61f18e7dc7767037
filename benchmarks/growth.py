"""A corpus as it grows: time a passage, and peak memory beside the vectors themselves, in a fresh process for each size."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil

from helpers import PROJECT_ROOT, cde
from helpers.execute import PeakMemory

from .harness import Row, Spread, part
from .texts import many

SIZES = (1_000, 4_000, 16_000)
WITHIN = 1.10


def encode(count: int) -> None:
    """In a process of its own: prints milliseconds a passage, and the process's peak memory less the vectors that it returns, in MB."""
    model, texts = cde.load_mini_cde(), many(count)
    context = model.embed_context(texts)
    model.encode_documents(texts[:256], context)
    model.second_stage_model.tokens.forget()  # or the first thousand would come out of memory
    memory = PeakMemory(psutil.Process().pid)
    memory.start()
    start = time.perf_counter()
    vectors = model.encode_documents(texts, context)
    seconds = time.perf_counter() - start
    memory.done.set()
    print(json.dumps({"ms": 1000 * seconds / count, "MB": (memory.peak - vectors.nbytes) / 1e6}))


def run() -> list[Row]:
    found = {}
    for count in SIZES:
        command = [sys.executable, "-m", "benchmarks.growth", str(count)]
        done = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
        found[count] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{count:,} passages: {found[count]['ms']:.2f} ms each, peak {found[count]['MB']:.0f} MB",
            flush=True,
        )
    rows = []
    for count in SIZES[1:]:
        for unit, what in (("ms", "time a passage"), ("MB", "peak memory beside the vectors")):
            ours, first = Spread((found[count][unit],)), Spread((found[SIZES[0]][unit],))
            rows.append(
                Row(
                    f"encoding {count:,} passages, {what}",
                    f"with {SIZES[0]:,}",
                    ours,
                    first,
                    unit,
                    WITHIN,
                    None,
                    at_most=True,
                )
            )
    return rows


if __name__ == "__main__":
    if len(sys.argv) > 1:
        encode(int(sys.argv[1]))
    else:
        sys.exit(part(run))
