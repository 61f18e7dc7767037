"""A report to paste into a bug report: `python -m helpers.doctor`. It shows no key and no path."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from . import PROJECT_ROOT, __version__, artifacts, files, projection, settings
from .console import get_console

#: What the notebooks depend on most, and what most often explains a fault.
PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "huggingface-hub",
    "openai",
    "altair",
    "vegafusion",
    "vl-convert-python",
    "anywidget",
    "ipywidgets",
    "jupyterlab",
    "numpy",
    "pandas",
    "scikit-learn",
    "openTSNE",
    "datasets",
    "rich",
    "nbval",
)
PROXY_AND_OFFLINE = ("HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def _guard(check: Callable[[], str]) -> str:
    """The finding of one check, or its error in words: the report never stops half way."""
    try:
        return check()
    except Exception as error:  # any of a dozen libraries may raise anything
        return f"PROBLEM: {type(error).__name__}: {error}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "PROBLEM: not installed. Fix it: python run.py lab"


def _python() -> str:
    own = sys.prefix != sys.base_prefix
    where = "own environment" if own else "NOT in an environment of its own"
    return f"{platform.python_version()} ({where})"


def _memory() -> str:
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    return f"{free:.1f} of {total:.1f} GiB free, {os.cpu_count()} cores"


def _device() -> str:
    import torch

    from .device import pick_device

    device = pick_device()
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"{device} ({name}), {torch.get_num_threads()} threads"


def _encoder_files() -> str:
    model = artifacts.MINILM
    directory = artifacts.locate(model)
    size = sum((directory / name).stat().st_size for name in model.files)
    return f"{model.name}: {len(model.files)} files, {size / 1e6:.1f} MB, SHA-256 as published"


def _map() -> str:
    stored = sorted(projection.SHIPPED.glob("*.npz"))
    if not stored:
        return (
            "PROBLEM: the shipped t-SNE map is missing; notebook 2 computes it (under a minute). "
            "Restore it: git checkout -- data"
        )
    files.check_shipped(*stored)
    return "intact"


def _small_model() -> str:
    from .cde import load_mini_cde

    pooling = load_mini_cde().pooling
    return f"intact, {type(pooling).__name__}({pooling.extra_repr()})"


def _collections() -> str:
    from .retrieval import load_beir

    sizes = {
        name: load_beir(PROJECT_ROOT / "data" / name) for name in ("money", "country", "notices")
    }
    return ", ".join(
        f"{name}: {len(corpus)} passages, {len(queries)} questions"
        for name, (corpus, queries, _) in sizes.items()
    )


def _key() -> str:
    settings.load_env()
    url = os.environ.get("OPENAI_BASE_URL")
    key = "found" if os.environ.get("OPENAI_API_KEY") else "not found (a local server answers)"
    return f"key {key}, base URL {'set' if url else 'not set'}"


def _network() -> str:
    flags = ", ".join(name for name in PROXY_AND_OFFLINE if os.environ.get(name))
    return f"source {settings.source()}; set: {flags or 'none of the proxy and offline variables'}"


def _theme() -> str:
    get_console()
    return settings.choice("EMBEDDINGS_THEME") or "light"


def _renderer() -> str:
    import altair as alt

    from . import charts

    charts.enable()
    dot = alt.Chart(alt.Data(values=[{"a": 1}]), description="dot").mark_point().encode(x="a:Q")
    render: Any = alt.renderers.get()
    bundle, _ = render(dot.to_dict())
    front_end = "live" if settings.is_live() else "none (headless)"
    return (
        f"{alt.renderers.active}, static picture drawn ({len(bundle['image/png'])} bytes), "
        f"front end {front_end}"
    )


def report() -> Iterator[tuple[str, str]]:
    """Every line of the report as (name, finding); `PROBLEM` begins one that asks for action."""
    yield "series", __version__
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "python", _python()
    yield "memory", _memory()
    yield "disk", f"{shutil.disk_usage(PROJECT_ROOT).free / 2**30:.1f} GiB free"
    yield "device", _guard(_device)
    yield "encoder", _guard(_encoder_files)
    yield "token map", _guard(_map)
    yield "mini CDE", _guard(_small_model)
    yield "collections", _guard(_collections)
    yield "OpenAI", _guard(_key)
    yield "network", _guard(_network)
    yield "theme", _guard(_theme)
    yield "charts", _guard(_renderer)
    for name in PACKAGES:
        yield name, _version(name)


def main() -> int:
    """Print the report; 1 if it has a problem."""
    problems = 0
    for name, finding in report():
        print(settings.hide_key(f"{name:<22} {finding}"), flush=True)
        problems += finding.startswith("PROBLEM")
    print(f"\n{problems} problem(s) found." if problems else "\nNo problem found.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
