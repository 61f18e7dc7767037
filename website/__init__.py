"""The series as a website that needs no network: `python run.py site` makes output/site.

`sources` turns notebooks and Markdown files into Sphinx's source folder, `token_map` the map of all
tokens into one JavaScript file, `sphinx_parts` adds to Sphinx what it lacks (formulas without a
server, a search that finds Chinese, a language switch), and `build` puts it together. Nothing
is run: pages show the outputs that the notebooks hold.
"""
