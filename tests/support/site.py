"""Links and anchors of a finished site."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Ids of a page, and what it leads to or shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [str(values[name]) for name in ("href", "src") if values.get(name)]
        if tag == "img":
            self.pictures.append(values)


def read_pages(site: Path) -> dict[Path, Page]:
    """Every page of a site; those that a theme or a download brings are not ours."""
    paths = (path.relative_to(site) for path in site.rglob("*.html"))
    ours = (path for path in paths if not {"_static", "_downloads", "work"} & set(path.parts))
    return {path: Page(site / path) for path in sorted(ours)}


def faults_of_links(site: Path) -> list[str]:
    """Links and sources inside a site that lead to no file or to no anchor."""
    pages, found = read_pages(site), []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (
                (site / path.parent / unquote(parts.path)).resolve() if parts.path else site / path
            )
            inside = (
                there.relative_to(site.resolve()) if there.is_relative_to(site.resolve()) else None
            )
            anchor = unquote(parts.fragment)
            if not there.is_file() or (
                anchor and inside in pages and anchor not in pages[inside].ids
            ):
                found.append(f"{path.as_posix()}: {link}")
    return found
