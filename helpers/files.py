"""Files that are whole and unaltered: checksums, the manifest of what ships, atomic writes."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from . import PROJECT_ROOT
from .language import translated as _

MANIFEST = PROJECT_ROOT / "helpers" / "manifest.json"
SHIPPED = (
    "models/*/config.json",
    "data/*/*.jsonl",
    "data/*/qrels/*.tsv",
    "data/tsne/*.npz",
)
STALE_SECONDS = 3600  # a partial file older than this belongs to a process that was killed


class ArtifactError(RuntimeError):
    """A file of a model or data set is missing, truncated, altered or out of reach."""


def sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(directory: Path, files: Mapping[str, str], *, fix: str) -> None:
    """Check every file of a manifest (relative path -> SHA-256).

    Args:
        fix: the command that restores the files; the error message ends with it.

    Raises:
        ArtifactError: a file is missing or has other bytes.
    """
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            raise ArtifactError(_("{name} is missing. Fix it: {fix}").format(name=name, fix=fix))
        if sha256(path) != expected:
            raise ArtifactError(
                _(
                    "{name} ({st_size:,} bytes) is not the published file: it was "
                    "truncated or altered, and has not been opened. Fix it: {fix}"
                ).format(name=name, st_size=path.stat().st_size, fix=fix)
            )


def check_shipped(*paths: Path) -> None:
    """Check files against the manifest of what ships; a reader's own files pass unchecked.

    Raises:
        ArtifactError: a file has other bytes than the one that ships.
    """
    known = json.loads(MANIFEST.read_text(encoding="utf-8"))
    for path in paths:
        full = path.resolve()
        inside = full.is_relative_to(PROJECT_ROOT)
        name = full.relative_to(PROJECT_ROOT).as_posix() if inside else ""
        if name in known:
            fix = _("git checkout -- {name}   (keep your own version under another name)").format(
                name=name
            )
            verify(PROJECT_ROOT, {name: known[name]}, fix=fix)


def write_manifest() -> None:
    """Record the files that are there now as the ones that ship: `python -m helpers.files`.

    To be run after a model, a collection or a map was renewed.
    """
    files = sorted(path for pattern in SHIPPED for path in PROJECT_ROOT.glob(pattern))
    listed = {path.relative_to(PROJECT_ROOT).as_posix(): sha256(path) for path in files}
    write_whole(MANIFEST, (json.dumps(listed, indent=2) + "\n").encode())


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a partial file to write to; on success it replaces `path` in one step.

    Readers see the old file or the new one, never half of it. Only a killed process leaves the
    partial file behind, `<name>.<8 hex digits>.part`.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    part.touch()
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: other kernels may use it at the same time, disks fill up.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in path.parent.glob(f"{path.name}.*.part"):
        with suppress(OSError):  # gone already, or not ours
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                part.unlink()
    with whole(path) as part:
        part.write_bytes(data)


if __name__ == "__main__":
    write_manifest()
