"""What Sphinx reads: the series' pages and notebooks, in one language, in a folder of their own.

A page keeps its place in both languages: `notebooks/zh/01.ipynb` and `README.zh.md` are written to
`notebooks/01.ipynb` and `README.md`, so that a link to the other language is the same path in its
tree. A page without a translation is there in English.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import nbformat

from helpers.charts import VEGALITE_MIME

#: Where a link may lead: a page, which Sphinx renders, or a file that is copied as it is.
PAGES = {".md", ".ipynb"}
FENCE = re.compile(r"(^ *```.*?^ *```[ ]*$)", re.M | re.S)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
CODE_SPAN = re.compile(r"(`[^`\n]+`)")
#: The line that leads from one README to the other; the site has a switch on every page.
LANGUAGES = re.compile(r"^\[English\]\(README\.md\) \| \[.*\]\(README\.zh\.md\)\n\n?", re.M)
#: A cell that draws the map of all tokens: on the site the map is live.
DRAWS_TOKEN_MAP = "token_map.show("  # noqa: S105


@dataclass
class Sources:
    """The pages of one language.

    Args:
        root: the project's folder.
        language: `en` or `zh`.
        words: what the site says in this language (words.*.toml).
        to_root: from this language's pages to the root of the site, `""` or `"../"`.
        repository: its address, such as `https://github.com/owner/name`, or "".
        branch: of the repository.
    """

    root: Path
    language: str
    words: dict[str, Any]
    to_root: str = ""
    repository: str = ""
    branch: str = "main"
    #: Path of each page in the site -> the file that it is made from.
    pages: dict[str, Path] = field(default_factory=dict)
    #: Files that pages link to.
    files: set[Path] = field(default_factory=set)

    def collect(self) -> None:
        """Find all pages: the notebooks, the README, and whatever they lead to.

        Raises:
            FileNotFoundError: a link leads nowhere.
        """
        folder = self.root / "notebooks"
        waiting = [self.root / "README.md", *sorted(folder.glob("*.ipynb"))]
        while waiting:
            here = waiting.pop(0)
            if not here.exists():
                raise FileNotFoundError(f"{here.relative_to(self.root).as_posix()} is missing")
            name = self.place(here)
            if name in self.pages:
                continue
            path = self.pages[name] = self.translated(self.root / name)
            for target in targets(path):
                there = self.resolve(path, target)
                if there.suffix in PAGES:
                    waiting.append(there)
                elif there != self.root:
                    self.files.add(there)

    def resolve(self, path: Path, target: str) -> Path:
        """The file that a link on a page leads to."""
        there = (path.parent / unquote(target.partition("#")[0])).resolve()
        if there.is_dir() and (there / "README.md").exists():
            there /= "README.md"
        if not there.exists():
            name = path.relative_to(self.root).as_posix()
            raise FileNotFoundError(f"{name} links to {target}, which is not there. Fix the link.")
        return there

    def translated(self, english: Path) -> Path:
        """The file of this language, or the English one where there is none."""
        candidates = [
            english.parent / self.language / english.name,
            english.with_suffix(f".{self.language}{english.suffix}"),
        ]
        return next((path for path in candidates if path.exists()), english)

    def place(self, path: Path) -> str:
        """Where a page stands in every language: its English path from the project's folder."""
        if path.parent.name == self.language:
            path = path.parent.parent / path.name
        path = path.with_name(path.name.replace(f".{self.language}.", "."))
        return path.relative_to(self.root).as_posix()

    def docname(self, name: str) -> str:
        """A page's path in the site, without suffix; the README is the first page."""
        return "index" if name == "README.md" else name.rpartition(".")[0]

    def write(self, folder: Path, extra: Path) -> None:
        """Write the source folder of Sphinx, and what is copied into the site as it is."""
        for name, path in self.pages.items():
            target = folder / (self.docname(name) + path.suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".ipynb":
                notebook = nbformat.read(path, as_version=4)
                self.convert(notebook, name, path, extra)
                nbformat.write(notebook, target)
                shutil.copyfile(path, extra / name)
            else:
                text = without_front_matter(path.read_text(encoding="utf-8"))
                text = LANGUAGES.sub("", text)
                text = with_parts(self.with_links(text, name, path))
                if name == "README.md":  # under the title, or it would be part of the last section
                    title, _, rest = text.lstrip().partition("\n")
                    text = f"{title}\n{self.contents()}{rest}"
                target.write_text(text, encoding="utf-8")
        for path in sorted(self.files):
            target = folder / path.relative_to(self.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                shutil.copyfile(path, target)
            else:
                shutil.copytree(path, target)
                (target / "README.md").write_text(listing(path), encoding="utf-8")

    def contents(self) -> str:
        """The table of contents of the sidebar: the notebooks, then all other pages."""
        lists = {"notebooks": [n for n in self.pages if n.endswith(".ipynb")]}
        lists["more"] = [n for n in self.pages if n not in lists["notebooks"] + ["README.md"]]
        return "".join(
            f"\n```{{toctree}}\n:hidden:\n:caption: {self.words[caption]}\n\n"
            + "".join(f"/{self.docname(name)}\n" for name in names)
            + "```\n"
            for caption, names in lists.items()
            if names
        )

    def with_links(self, text: str, name: str, path: Path) -> str:
        """Markdown whose links lead from a page's place in the site to the others'."""

        def leading(match: re.Match[str]) -> str:
            target = match[2]
            if is_outside(target) or target.startswith("#"):
                return match[0]
            there = self.resolve(path, target)
            there = there / "README.md" if there.is_dir() else there  # see `listing`
            _, sign, anchor = target.partition("#")
            if there.suffix in PAGES:
                page = self.place(there)
                new = self.docname(page) + there.suffix
            else:
                new = there.relative_to(self.root).as_posix()
            base = posixpath.dirname(self.docname(name))
            new = quote(posixpath.relpath(new, base or "."))
            return f"{match[1]}{new}{sign}{anchor}{match[3]}"

        return outside_code(text, lambda part: LINK.sub(leading, part))

    def convert(self, notebook: Any, name: str, path: Path, extra: Path) -> None:
        """Turn a notebook into what the site shows: live charts, folded outputs, anchors."""
        (extra / name).parent.mkdir(parents=True, exist_ok=True)
        cells = []
        for number, cell in enumerate(notebook.cells):
            anchor = f'<div class="place" id="cell-{escape(cell.id)}"></div>\n\n'
            if cell.cell_type == "markdown":
                cell.source = self.with_links(cell.source, name, path)
                if number == 0:
                    title, _, rest = cell.source.partition("\n")
                    cell.source = f"{title}\n\n{self.ways_to_open(name, path)}\n{rest}"
                cell.source = anchor + cell.source if number else cell.source + "\n\n" + anchor
            else:
                place = nbformat.v4.new_markdown_cell(anchor)
                cells.append(place)
                if cell.metadata.get("jupyter", {}).get("outputs_hidden") and cell.outputs:
                    cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-output"]
                    without_blank_line(cell)
                live = DRAWS_TOKEN_MAP in cell.source
                for rank, output in enumerate(cell.get("outputs", [])):
                    stem = f"{Path(name).stem}-{cell.id}-{rank}"
                    self.draw(output, extra / Path(name).parent / "pictures" / f"{stem}.png", live)
            cells.append(cell)
        notebook.cells = cells

    def draw(self, output: Any, picture: Path, is_token_map: bool) -> None:
        """Turn an output with a picture into HTML that keeps its words and is live if it can be.

        The picture goes into a file of its own: it is what is printed, and what is seen without
        scripts.
        """
        data = output.get("data", {})
        if "image/png" not in data:
            return
        picture.parent.mkdir(parents=True, exist_ok=True)
        png = base64.b64decode(data["image/png"])
        picture.write_bytes(png)
        about = output.metadata.get("image/png", {})
        alt = about.get("alt") or data.get("text/plain", "")
        width = about.get("width") or round(int.from_bytes(png[16:20], "big") / 1.5)
        image = (
            f'<img src="pictures/{picture.name}" width="{width}" alt="{escape(alt)}" '
            'loading="lazy">'
        )
        shared = f"{self.to_root}../_static"
        if is_token_map:
            drawn = self.token_map(image, shared)
        elif VEGALITE_MIME in data:
            options = output.metadata.get(VEGALITE_MIME, {}).get("embed_options", {})
            words = {
                "PNG_ACTION": self.words["save_png"],
                "SVG_ACTION": self.words["save_svg"],
                "CLICK_TO_VIEW_ACTIONS": self.words["chart"],
            }
            drawn = (
                f'<figure class="chart" data-script="{shared}/vega.js">{image}'
                f"{json_script(spec=data[VEGALITE_MIME], options={**options, 'i18n': words})}"
                "</figure>"
            )
        else:
            drawn = f'<figure class="chart">{image}</figure>'
        output.data = {"text/html": drawn}

    def token_map(self, image: str, shared: str) -> str:
        words = {key: escape(text) for key, text in self.words["map"].items()}
        kinds = "".join(
            f'<span><svg viewBox="0 0 12 12" aria-hidden="true">{mark}</svg>{words[kind]}</span>'
            for kind, mark in KIND_MARKS.items()
        )
        return (
            f'<figure class="token-map" data-script="{shared}/token-map-data.js">{image}'
            '<form class="live" hidden>'
            f'<label>{words["find"]} <input type="search" autocomplete="off" '
            'autocapitalize="none" spellcheck="false"></label>'
            f'<button type="submit">{words["ring"]}</button>'
            f'<button type="button" data-do="in" aria-label="{words["zoom_in"]}">+</button>'
            f'<button type="button" data-do="out" aria-label="{words["zoom_out"]}">−</button>'
            f'<button type="button" data-do="reset">{words["reset"]}</button></form>'
            '<p class="live answer" role="status" hidden></p>'
            f'<div class="live plot" role="application" tabindex="0" '
            f'aria-label="{words["title"]}. {words["help"]}" hidden></div>'
            f'<figcaption class="live" hidden><span class="kinds">{kinds}</span>{words["help"]}'
            f"</figcaption>{json_script(words=self.words['map'])}</figure>"
        )

    def ways_to_open(self, name: str, path: Path) -> str:
        """Links to the notebook itself, and to services that run it if an address is set."""
        file = posixpath.basename(name)
        links = [(f"{quote(file)}", self.words["download"], " download")]
        if self.repository:
            inside = quote(path.relative_to(self.root).as_posix())
            short = re.sub(r"^https://github\.com/", "", self.repository)
            if short != self.repository:
                colab = f"https://colab.research.google.com/github/{short}/blob"
                binder = f"https://mybinder.org/v2/gh/{short}"
                links += [
                    (f"{colab}/{self.branch}/{inside}", self.words["colab"], ""),
                    (
                        f"{binder}/{self.branch}?urlpath=lab/tree/{inside}",
                        self.words["binder"],
                        "",
                    ),
                ]
        shown = " ".join(f'<a href="{url}"{more}>{text}</a>' for url, text, more in links)
        return f'<p class="open-in">{shown}</p>\n'


KIND_MARKS = {
    "word": '<circle cx="6" cy="6" r="4.5" fill="#0072B2"/>',
    "continuation": '<path d="M6 1 11.5 11H.5z" fill="#E69F00"/>',
    "special": '<path d="M1.5 1.5h9v9h-9z" fill="#CC3311"/>',
}


def json_script(**values: Any) -> str:
    """Values for a page's scripts; `</script>` in a text would end the element."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'


def listing(folder: Path) -> str:
    """A page for a folder that has none: links to its files."""
    files = "".join(f"- [{path.name}]({quote(path.name)})\n" for path in sorted(folder.iterdir()))
    return f"---\norphan: true\n---\n# {folder.name}\n\n{files}"


def without_blank_line(cell: Any) -> None:
    """Drop the blank line that JupyterLab shows as the preview of a folded output."""
    first = cell.outputs[0]
    if first.output_type == "stream":
        first.text = re.sub(r"\A *\n", "", first.text)
        cell.outputs = cell.outputs if first.text else cell.outputs[1:]


def is_outside(target: str) -> bool:
    return re.match(r"[a-z]+:", target) is not None


def targets(path: Path) -> Iterator[str]:
    """Links inside the project from a page or notebook."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    else:
        texts = [LANGUAGES.sub("", path.read_text(encoding="utf-8"))]
    found: list[str] = []

    def note(part: str) -> str:
        found.extend(match[1] for match in LINK.findall(part))
        return part

    for text in texts:
        outside_code(text, note)
    yield from (t for t in found if not is_outside(t) and not t.startswith("#"))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Markdown with `change` applied to everything but code.

    >>> outside_code("a `a` a", str.upper)
    'A `a` A'
    """
    parts = FENCE.split(text)
    for number in range(0, len(parts), 2):
        pieces = CODE_SPAN.split(parts[number])
        pieces[::2] = map(change, pieces[::2])
        parts[number] = "".join(pieces)
    return "".join(parts)


def without_front_matter(text: str) -> str:
    """Markdown without the YAML that the Hub reads at the top of a model's card."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)


def with_parts(text: str) -> str:
    """Markdown with a numbered anchor at each heading but the first, the same in all languages."""
    parts, number = FENCE.split(text), 0

    def anchored(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        place = f'<div class="place" id="part-{number}"></div>\n\n'
        return match[0] if number == 1 else place + match[0]

    parts[::2] = [re.sub(r"^#+ .*$", anchored, part, flags=re.M) for part in parts[::2]]
    return "".join(parts)
