"""The series measured against what a learner would otherwise run. Not part of the tests: `.ci/run` times nothing."""
