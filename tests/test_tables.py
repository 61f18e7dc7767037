"""Tables, token chips and panels: what a reader types is never markup."""

import pandas as pd

from helpers import tables
from helpers.console import get_console


def printed(*things):
    console = get_console()
    with console.capture() as shown:
        for thing in things:
            console.print(thing)
    return shown.get()


def test_what_a_reader_types_is_text_and_never_markup():
    text = printed(
        tables.pair_panel("[red]bank[/red]", "[/]", 0.5, title="[bold]"),
        tables.chips(["[CLS]", "[/bank]"]),
        tables.from_frame(pd.DataFrame({"token": ["[unused1]"]}), title="[t]"),
    )
    for typed in ("[red]bank[/red]", "[/]", "[bold]", "[CLS]", "[/bank]", "[unused1]", "[t]"):
        assert typed in text


def test_the_focused_row_is_marked_by_a_sign_as_well():
    text = printed(tables.from_frame(pd.DataFrame({"a": [1, 2]}), title="t", focus=1))
    assert "→" in text.splitlines()[-2]
