"""Make the site: `python run.py site`, or `python run.py site FOLDER` for another place.

Two settings, both optional: `EMBEDDINGS_SITE_REPOSITORY=https://github.com/owner/name` adds links
that open a notebook in Colab and Binder, `EMBEDDINGS_SITE_BRANCH` names the branch (main).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from helpers import PROJECT_ROOT

from .build import SITE, build


def main(arguments: list[str]) -> int:
    if any(argument.startswith("-") for argument in arguments) or len(arguments) > 1:
        print(__doc__.strip())
        return 0 if arguments in (["-h"], ["--help"]) else 2
    site = Path(arguments[0]).resolve() if arguments else SITE
    start = time.perf_counter()
    warnings = build(PROJECT_ROOT, site)
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    seconds = time.perf_counter() - start
    print(f"{site / 'index.html'}: {size / 1e6:.1f} MB, {seconds:.0f} s, {warnings} warnings")
    return 1 if warnings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
