"""How many examples the property tests draw, and whether they are the same on every run."""

import os

from hypothesis import HealthCheck, settings

# The same examples on every run; in the weekly workflow new ones, and more of them. What fails
# there fails here with the seed from its log: HYPOTHESIS_PROFILE=weekly ... --hypothesis-seed=SEED
every_run = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("series", **every_run, derandomize=True, max_examples=40)
settings.register_profile(
    "weekly", **every_run, derandomize=False, max_examples=400, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "series"))

quick = settings()
few = settings(max_examples=quick.max_examples // 5)
