"""A growing corpus: time per passage, and peak memory not counting the vectors themselves.

Each size has a process of its own.
"""

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
    """Print milliseconds per passage, and the peak memory of this process in MB.

    The vectors that it returns are not counted.
    """
    model, texts = cde.load_mini_cde(), many(count)
    context = model.embed_context(texts)
    model.encode_documents(texts[:256], context)
    model.second_stage_model.tokens.forget()  # or some of the texts would come from the cache
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
        print(f"{count:,} passages: {found[count]}", flush=True)
    rows = []
    for count in SIZES[1:]:
        for unit, what in (("ms", "time per passage"), ("MB", "peak memory without the vectors")):
            rows.append(
                Row(
                    what=f"encoding {count:,} passages, {what}",
                    against=f"with {SIZES[0]:,}",
                    ours=Spread((found[count][unit],)),
                    theirs=Spread((found[SIZES[0]][unit],)),
                    unit=unit,
                    floor=WITHIN,
                    goal=None,
                    at_most=True,
                )
            )
    return rows


if __name__ == "__main__":
    if len(sys.argv) > 1:
        encode(int(sys.argv[1]))
    else:
        sys.exit(part(run))
