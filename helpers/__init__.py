"""What the four notebooks share, so that their cells hold only the lesson.

Four floors. A module imports from its own floor or a lower one, and never in a circle:

1. `language`, `settings`, `files`, `device`, `console`, `tokens`, `similarity`, `figures`: English
   or Chinese, environment and keys, whole files, where to compute, how to print, text and numbers,
   the figures' words.
2. `artifacts`, `tables`, `charts`, `token_map`: what may be loaded and from where; what a reader
   sees.
3. `projection`, `retrieval`, `openai_api`, `local_server`, `cde`: t-SNE, search and its measures,
   the API, the contextual models.
4. `exercises`, `session`, `doctor`, `execute`; `translations`, `messages`, `wording`: hints, the
   start of a notebook, a report, headless runs; the Chinese edition.
"""

import os
from pathlib import Path

# A fallback: OpenMP reads both when torch is loaded, which may have happened already. run.py, the
# kernel that it installs and the image set the same values before Python starts.
#
# Threads that wait for work should go to sleep soon: when they spin, two kernels on one laptop take
# 1.5 to 3 times as long. They should not sleep at once either, or a single short text takes 1.4
# times as long. GNU's OpenMP alone reads the spin count, in spins of a few nanoseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = "0.1.0"

#: The folder that holds `notebooks`, `themes`, `data` and this package.
PROJECT_ROOT = Path(__file__).resolve().parent.parent
