"""The series measured against what a learner would otherwise run.

`python run.py benchmarks`, or `python -m benchmarks` with the Python of .venv.
"""

import helpers  # noqa: F401  sets OpenMP's variables, also for a part that imports torch first
