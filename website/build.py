"""Build the site: each language in a process of its own, and what they share."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from helpers import PROJECT_ROOT
from helpers.charts import VEGALITE
from helpers.files import write_whole
from helpers.projection import SHIPPED

from .sources import Sources

HERE = Path(__file__).parent
SITE = PROJECT_ROOT / "output" / "site"
CACHE = PROJECT_ROOT / ".cache" / "site"
#: Folder of each language in the site, and its name for Sphinx.
LANGUAGES = {"en": ("", "en"), "zh": ("zh/", "zh_CN")}


def words(language: str) -> dict[str, Any]:
    return tomllib.loads((HERE / f"words.{language}.toml").read_text(encoding="utf-8"))


def languages(root: Path) -> list[str]:
    """English, and every other language that has notebooks."""
    return [
        name
        for name in LANGUAGES
        if name == "en" or any((root / "notebooks" / name).glob("*.ipynb"))
    ]


def build_language(root: Path, language: str, others: list[str], site: Path, work: Path) -> int:
    """Build the pages of one language; the number of Sphinx's warnings, which it prints."""
    from sphinx.application import Sphinx

    folder, sphinx_name = LANGUAGES[language]
    to_root = "../" if folder else ""
    said = words(language)
    source, extra = work / language / "source", work / language / "extra"
    pages = Sources(
        root,
        language,
        said,
        to_root,
        os.environ.get("EMBEDDINGS_SITE_REPOSITORY", "").removesuffix("/"),
        os.environ.get("EMBEDDINGS_SITE_BRANCH", "main"),
    )
    pages.collect()
    pages.write(source, extra)
    app = Sphinx(
        srcdir=source,
        confdir=HERE,
        outdir=site / folder,
        doctreedir=work / language / "doctrees",
        buildername="html",
        confoverrides={
            "project": said["title"],
            "html_title": said["title"],
            "language": sphinx_name,
            "html_extra_path": [str(extra)],
            "nb_code_prompt_show": said["show_output"],
            "nb_code_prompt_hide": said["hide_output"],
            "site_to_root": to_root,
            "site_others": [(LANGUAGES[name][0], words(name)) for name in others],
        },
        status=None,
    )
    app.build()
    return app._warncount


def cached(name: str, make: Callable[[], bytes], *sources: Path) -> bytes:
    """A file of `.cache/site` that is made once for given sources."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    path = CACHE / f"{digest}-{name}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, make())
    return path.read_bytes()


def vega() -> bytes:
    import vl_convert

    bundle = vl_convert.javascript_bundle(vl_version=VEGALITE)  # type: ignore[call-arg]
    return bundle.encode()


def vega_script() -> bytes:
    """Vega-Embed, Vega-Lite and Vega in one file."""
    made = cached(f"vega-{version('vl-convert-python')}-{VEGALITE}.js", vega)
    return b"(() => {" + made + b"})();\n"  # its short names would clash with Sphinx's


def token_map_script() -> bytes:
    from . import token_map

    return cached(
        "token-map.js", token_map.script, Path(token_map.__file__), *SHIPPED.glob("*.npz")
    )


def build(root: Path, site: Path) -> int:
    """Build the site of the project in `root`, in place of what is in `site`; count warnings."""
    found = languages(root)
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.parent, prefix=".site-") as folder:
        work, fresh = Path(folder), Path(folder, "site")
        with ProcessPoolExecutor(len(found), mp_context=get_context("spawn")) as pool:
            jobs = [
                pool.submit(
                    build_language, root, name, [n for n in found if n != name], fresh, work
                )
                for name in found
            ]
            scripts = {"vega.js": vega_script(), "token-map-data.js": token_map_script()}
            warnings = sum(job.result() for job in jobs)
        for name, text in scripts.items():
            (fresh / "_static" / name).write_bytes(text)
        for path in fresh.rglob("*.map"):
            path.unlink()  # for the authors of the theme; 3 MB
        if site.exists():
            shutil.rmtree(site)
        fresh.replace(site)
    return warnings
