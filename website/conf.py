"""Settings of Sphinx; `__main__` adds those of a language."""

extensions = ["myst_nb", "website.sphinx_parts"]
author = "the authors of the series"
copyright = "code MIT, text and figures CC BY 4.0"
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 6
html_theme = "sphinx_book_theme"
html_theme_options = {
    "use_download_button": False,
    "article_header_end": ["language.html", "article-header-buttons.html"],
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 1,
}
html_context = {"default_mode": "auto"}
html_math_renderer = "mathml"
html_static_path = ["static", "../helpers/fonts/NotoSansSC.otf"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"}), ("token-map.js", {"defer": "defer"})]
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_search_options = {"dict": ""}  # no dictionary: see ChinesePairs
html_show_search_summary = False  # it would read pages with fetch(), which file:// does not have
templates_path = ["templates"]
pygments_style = "a11y-high-contrast-light"
