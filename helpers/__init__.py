"""What the four notebooks share, so that their cells hold only the lesson.

Floors, imports run upward only:

1. `device`, `console`, `artifacts`: where to compute, how to speak, what may be loaded.
2. `tokens`, `similarity`, `projection`, `retrieval`, `cde`: text and numbers in, numbers out.
3. `charts`, `tables`, `openai_api`, `exercises`: what a reader sees and talks to.
4. `session`, `doctor`, `execute`: the start of a notebook, a report, a headless run.
"""

import os
from pathlib import Path

# Threads that wait shall soon sleep, or two kernels on one laptop take 1.5 to 3 times as long; not at once, or one short text takes 1.4 times
# as long. Read when torch is loaded; the second by GNU's OpenMP alone, in spins of a few nanoseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = "0.1.0"

#: Folder that holds `notebooks`, `themes`, `data` and this package.
PROJECT_ROOT = Path(__file__).resolve().parent.parent
