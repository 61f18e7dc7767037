"""What a stored notebook has to keep. Each function returns the faults that it finds."""

import json
import re

MEGABYTE = 1_000_000
METADATA = {"kernelspec", "language_info"}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    """Every stored output as (id of its cell, output)."""
    return [(cell.id, output) for cell in code_cells(notebook) for output in cell.outputs]


def not_from_one_run(notebook):
    """Cells that were not executed in order, each once, in a fresh kernel."""
    counts = enumerate((cell.execution_count for cell in code_cells(notebook)), start=1)
    return [f"{count} instead of {expected}" for expected, count in counts if count != expected]


def stored_errors(notebook):
    """Cells that ended in an error."""
    return [name for name, output in outputs(notebook) if output.output_type == "error"]


def stored_state(notebook):
    """What belongs to one machine or one session: its kernel, its widgets."""
    found = [f"metadata: {name}" for name in METADATA ^ set(notebook.metadata)]
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("another kernel than python3")
    if "jupyter.widget" in json.dumps(notebook):
        found.append("a widget")
    return found


def pictures(notebook):
    """Every stored picture as (id of its cell, its description)."""
    return [
        (name, output.metadata.get("image/png", {}).get("alt", ""))
        for name, output in outputs(notebook)
        if "image/png" in output.get("data", {})
    ]


def pictures_without_words(notebook):
    """Cells that show a picture without a description, or with a short one.

    A Chinese character says about as much as three letters, and is counted as two.
    """

    def length(text):
        return sum(2 if sign > "\u2e80" else 1 for sign in text)

    return [name for name, description in pictures(notebook) if length(description) < 60]


def pages_that_ask_a_server(notebook):
    """Cells whose stored HTML runs a script or names an address."""
    return [
        name
        for name, output in outputs(notebook)
        if re.search(r"<script|https?://", str(output.get("data", {}).get("text/html", "")))
    ]


def too_large(path):
    """The size of the file, when it is over a megabyte."""
    size = path.stat().st_size
    return [f"{size:,} bytes"] if size > MEGABYTE else []
