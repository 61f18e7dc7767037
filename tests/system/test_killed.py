"""Processes that are killed or collide while they write, and disks that fill up."""

import os
import time

import pytest

from helpers import files
from tests.support.linux import mounted, needs_mount
from tests.support.processes import python, started

KERNEL = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from helpers import projection
    projection.LOCAL = Path(sys.argv[1])
    projection.STEPS.update(early_exaggeration_iter=20, n_iter=20)
    vectors = np.random.default_rng(1).normal(size=(60, 8))
    print("ready", flush=True)
    sys.stdin.readline()
    points = projection.tsne_2d(vectors, perplexity=5, progress=False)
    for _ in range(100):
        projection.save_points(projection.LOCAL / "same.npz", points)
        assert projection._read(projection.LOCAL / "same.npz", 60) is not None
"""


@pytest.mark.skipif(
    os.name == "nt",
    reason="Windows replaces no open file: the second kernel warns and computes again",
)
def test_two_kernels_can_store_the_same_map_at_once(tmp_path):
    strict = {"PYTHONWARNINGS": "error"}
    with started(KERNEL, tmp_path, **strict) as one, started(KERNEL, tmp_path, **strict) as other:
        kernels = [one, other]
        assert [kernel.stdout.readline() for kernel in kernels] == ["ready\n", "ready\n"]
        for kernel in kernels:
            kernel.stdin.write("go\n")
            kernel.stdin.flush()
        errors = [kernel.communicate(timeout=60)[1] for kernel in kernels]
        assert [kernel.returncode for kernel in kernels] == [0, 0], errors
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz", ".npz"], (
        "the computed map, the other one, and no part"
    )


WRITER = """
    import sys, time
    from pathlib import Path
    from helpers import files
    with files.whole(Path(sys.argv[1])) as part:  # as `write_whole` does
        part.write_bytes(b"half of the ne")
        print("writing", flush=True)
        time.sleep(60)
"""


def test_a_kernel_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "map.npz"
    path.write_bytes(b"old")
    with started(WRITER, path) as kernel:  # killed at the end of the block
        assert kernel.stdout.readline() == "writing\n"
    (part,) = tmp_path.glob("*.part")
    assert path.read_bytes() == b"old" and part.read_bytes() == b"half of the ne"
    files.write_whole(path, b"new")
    assert part.exists(), "a young part may be another kernel's"
    os.utime(part, (time.time() - 2 * files.STALE_SECONDS,) * 2)
    files.write_whole(path, b"newer")
    assert path.read_bytes() == b"newer" and os.listdir(tmp_path) == ["map.npz"]


@needs_mount
def test_a_full_disk_is_an_error_that_leaves_the_old_file_and_no_part(tmp_path):
    code = """
        import os, sys
        from pathlib import Path
        from helpers import files
        path = Path(sys.argv[1]) / "map.npz"
        files.write_whole(path, b"old")
        try:
            files.write_whole(path, bytes(5_000_000))
        except OSError as error:
            print(error.strerror, path.read_bytes(), os.listdir(path.parent))
    """
    within = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path)
    done = python(code, tmp_path, within=within)
    assert done.stdout == "No space left on device b'old' ['map.npz']\n", done.stderr
