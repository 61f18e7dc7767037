"""What `import helpers` costs: torch and transformers are loaded when first needed."""

import subprocess
import sys

from helpers import PROJECT_ROOT

from .harness import Row, Spread, part

LIMIT_MS = 50
MEASURE = "import time; start = time.perf_counter(); import helpers; print(1000 * (time.perf_counter() - start))"


def run() -> list[Row]:
    def once() -> float:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE],
            cwd=PROJECT_ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        return float(done.stdout)

    once()  # from the disk
    return [
        Row(
            "`import helpers`",
            "a limit of 50 ms",
            Spread(tuple(once() for _ in range(9))),
            Spread((LIMIT_MS,)),
            "ms",
            1,
            None,
            at_most=True,
        )
    ]


if __name__ == "__main__":
    sys.exit(part(run))
