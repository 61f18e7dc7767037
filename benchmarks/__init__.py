"""The series measured against what a learner would otherwise run: `python run.py benchmarks`, or `python -m benchmarks` inside .venv."""
