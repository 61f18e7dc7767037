"""How a notebook starts, and the box in which a reader tries texts of their own."""

import altair as alt

from helpers import session, settings
from helpers.console import get_console


def test_start_gives_the_console_and_one_status_line(capsys):
    console = session.start("openai")
    printed = capsys.readouterr().out
    assert console is get_console()
    assert "device cpu · source bundled" in printed and "openai 3" in printed
    assert alt.renderers.active == "offline"


def test_a_folded_output_begins_with_a_line_that_shows_nothing_and_is_not_empty(capsys):
    session.fold()
    assert capsys.readouterr().out == " \n"


def test_try_it_is_a_plain_call_when_nobody_sits_in_front():
    got = []
    session.try_it(lambda *texts: got.append(texts), "a", "b")
    assert got == [("a", "b")]


def test_try_it_has_a_box_a_text_and_shows_errors_in_words(monkeypatch):
    monkeypatch.setattr(settings, "is_live", lambda: True)
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    session.try_it(lambda text: 1 / 0, "a", labels=("word",))
    box, button, _ = shown[0].children
    assert (box.value, box.description, button.description) == ("a", "word", "Run")
    button.click()
