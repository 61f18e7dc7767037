"""A report to paste into a bug report: `python -m helpers.doctor`. Holds no key and no path of yours."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import psutil

from . import PROJECT_ROOT, __version__, artifacts, projection, settings
from .console import get_console

PACKAGES = (
    "torch", "transformers", "sentence-transformers", "huggingface-hub", "openai", "altair", "vegafusion",
    "vl-convert-python", "anywidget", "ipywidgets", "jupyterlab", "numpy", "pandas", "scikit-learn", "openTSNE", "datasets",
    "rich", "nbval",
)  # fmt: skip


def _guard(check: Callable[[], str]) -> str:
    """The result of one check, or its error in words: a report never stops half way."""
    try:
        return check()
    except Exception as error:
        return f"PROBLEM: {type(error).__name__}: {error}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "PROBLEM: not installed. Mend it: python run.py lab"


def _device() -> str:
    import torch

    from .device import pick_device

    device = pick_device()
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return f"{device} ({name}), {torch.get_num_threads()} threads"


def _encoder_files() -> str:
    directory = artifacts.locate(artifacts.MINILM)
    size = sum((directory / name).stat().st_size for name in artifacts.MINILM.files)
    return f"{artifacts.MINILM.name}: {len(artifacts.MINILM.files)} files, {size / 1e6:.1f} MB, SHA-256 as published"


def _map() -> str:
    stored = sorted(projection.SHIPPED.glob("*.npz"))
    if not stored:
        return "PROBLEM: the shipped t-SNE map is missing; notebook 2 computes it (under a minute). Restore it: git checkout -- data"
    points = projection._read(stored[0], 30_522)
    return "intact" if points is not None else "PROBLEM: damaged. Restore it: git checkout -- data"


def _small_model() -> str:
    from .cde import load_mini_cde

    return f"intact, {sum(p.numel() for p in load_mini_cde().pooling.parameters()):,} numbers"


def _collections() -> str:
    from .retrieval import load_beir

    sizes = {name: load_beir(PROJECT_ROOT / "data" / name) for name in ("money", "country")}
    return ", ".join(
        f"{name}: {len(corpus)} passages, {len(queries)} questions"
        for name, (corpus, queries, _) in sizes.items()
    )


def _key() -> str:
    settings.load_env()
    url = os.environ.get("OPENAI_BASE_URL")
    found = (
        "found"
        if os.environ.get("OPENAI_API_KEY")
        else "not found (notebook 1 uses a local server)"
    )
    return f"key {found}, base URL {'set' if url else 'not set'}"


def _network() -> str:
    flags = [
        name
        for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
        if os.environ.get(name)
    ]
    return f"source {settings.source()}; set: {', '.join(flags) or 'none of the proxy and offline variables'}"


def _theme() -> str:
    get_console()
    return settings.choice("EMBEDDINGS_THEME") or "light"


def _renderer() -> str:
    import altair as alt

    from . import charts

    charts.enable()
    frame = alt.Data(values=[{"a": 1}])
    spec = alt.Chart(frame, description="dot").mark_point().encode(x="a:Q").to_dict()
    size = len(charts._offline(spec)[0]["image/png"])
    return f"{alt.renderers.active}, static picture drawn ({size} bytes), front end {'live' if settings.is_live() else 'none (headless)'}"


def report() -> Iterator[tuple[str, str]]:
    """Every line of the report as (name, finding)."""
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(PROJECT_ROOT)
    yield "series", __version__
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    own = sys.prefix != sys.base_prefix
    yield (
        "python",
        f"{platform.python_version()} ({'own environment' if own else 'NOT in an environment of its own'})",
    )
    yield (
        "memory",
        f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free, {os.cpu_count()} cores",
    )
    yield "disk", f"{disk.free / 2**30:.1f} GiB free"
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
    """Print the report; 1 when it holds a problem."""
    problems = 0
    for name, finding in report():
        print(settings.hide_key(f"{name:<22} {finding}"), flush=True)
        problems += finding.startswith("PROBLEM")
    print(f"\n{problems} problem(s) found." if problems else "\nNo problem found.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
