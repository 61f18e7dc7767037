"""What Sphinx lacks for a site without a network: formulas, Chinese search, a language switch."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import search
from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese

SPLIT_QUERY = """
function splitQuery(query) {
  const found = [];
  for (const [run] of query.matchAll(/[\\u3400-\\u9fff]+|[\\p{L}\\p{N}_]+/gu)) {
    if (!/[\\u3400-\\u9fff]/.test(run[0]) || run.length < 2) found.push(run);
    else for (let i = 0; i + 1 < run.length; i++) found.push(run.slice(i, i + 2));
  }
  return found;
}
"""


class ChinesePairs(SearchChinese):
    """Chinese search by pairs of neighbouring characters, in the index as in the query.

    Sphinx's own needs a dictionary (jieba), and then does not find what the reader splits
    differently.
    """

    language_name = "English"  # of the stemmer that the page calls: it is for Latin words
    js_splitter_code = SPLIT_QUERY

    def split(self, input: str) -> list[str]:
        """
        >>> ChinesePairs({}).split("输入向量 token")
        ['输入', '入向', '向量', 'token']
        """
        found: list[str] = []
        for run in re.findall(r"[\u3400-\u9fff]+|[a-zA-Z0-9_]+", input):
            if run[0] < "\u3400":
                found.append(run)
                self.latin_terms.add(run)
            else:
                found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        return found


def inline_formula(self: Any, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{tex2mathml(node.astext())}</span>')
    raise nodes.SkipNode


def formula(self: Any, node: nodes.math_block) -> None:
    drawn = tex2mathml(node.astext(), as_block=True)
    self.body.append(f'<div class="math" tabindex="0">{drawn}</div>')
    raise nodes.SkipNode


def add_languages(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """For the template of the language switch: this page in the other languages."""
    root = context["content_root"] + app.config.site_to_root
    is_page = pagename in app.env.all_docs or pagename == "search"
    page = f"{pagename}.html"
    context["other_languages"] = [
        {**words, "href": f"{root}{folder}{page if is_page else 'index.html'}"}
        for folder, words in app.config.site_others
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("site_to_root", "", "html")
    app.add_config_value("site_others", [], "html")
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))
    app.connect("html-page-context", add_languages)
    search.languages["zh"] = ChinesePairs
    return {"parallel_read_safe": True, "parallel_write_safe": True}
