"""Pictures with Chinese words, on a machine that has no Chinese font: glyphs, no empty boxes."""

import io
import re
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFont

from helpers import PROJECT_ROOT, charts, figures, messages
from helpers.wording import CHINESE

FONT = ImageFont.truetype(Path(charts.__file__).with_name("fonts") / "NotoSansSC.otf", 40)
UNKNOWN = "\u0378"  # no character, so every font draws its empty box


@pytest.fixture(autouse=True)
def chinese(monkeypatch):
    monkeypatch.setenv("EMBEDDINGS_LANGUAGE", "zh")


def glyph(character):
    mask = FONT.getmask(character)
    return mask.size, bytes(mask)


def lacking(text):
    """Chinese characters and marks of a text that the font does not draw."""
    box = glyph(UNKNOWN)
    signs = set(re.findall(rf"{CHINESE}|[，。：；？！（）“”、《》]", text))
    return sorted(sign for sign in signs if glyph(sign) == box)


def test_the_font_draws_every_character_of_the_chinese_texts():
    paths = [figures.CATALOGUES["zh"], messages.CATALOGUE]
    paths += (PROJECT_ROOT / "notebooks" / "zh").glob("*.md")
    assert not {path.name: found for path in paths if (found := lacking(path.read_text("utf-8")))}


def test_a_character_that_the_font_lacks_is_found():
    assert lacking("词元，龘") == ["龘"]


def by_vega(character):
    """A character as the title of an Altair chart, in pixels."""
    chart = charts.styled(
        alt.Chart(pd.DataFrame({"x": [1]}))
        .mark_point(opacity=0)
        .properties(title=character, width=20, height=1)
    )
    return np.asarray(Image.open(io.BytesIO(charts.picture(chart.to_dict()))).convert("L"))


def by_matplotlib(character, monkeypatch):
    """A character as the title of seaborn's heatmap, in pixels."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **_: shown.append(bundle))
    words = {"x_title": "", "y_title": "", "title": character, "description": "", "value_title": ""}
    charts.show_heatmaps({"": [[0.0]]}, **words)
    return np.asarray(Image.open(io.BytesIO(shown[0]["image/png"])).convert("L"))[:24]  # the title


@pytest.mark.parametrize("drawn_by", ["vega", "matplotlib"])
def test_a_chinese_character_is_drawn_as_itself_and_not_as_a_box(drawn_by, monkeypatch):
    def draw(character):
        character = f"国{character}国"  # titles of one height, whatever stands between
        return by_vega(character) if drawn_by == "vega" else by_matplotlib(character, monkeypatch)

    word, other, box = draw("词"), draw("元"), draw(UNKNOWN)
    assert word.tobytes() != other.tobytes() and word.tobytes() != box.tobytes()
    assert (draw("词") == word).all(), "the same each time"
    strokes = [(picture < 128).sum() for picture in (draw("一"), draw("警"))]
    assert strokes[1] > strokes[0] + 20, "many strokes are more ink than one; boxes are all alike"


def test_english_pictures_do_not_use_the_chinese_font(monkeypatch):
    monkeypatch.setenv("EMBEDDINGS_LANGUAGE", "en")
    chart = charts.styled(alt.Chart(pd.DataFrame({"x": [1]})).mark_point())
    assert chart.to_dict()["config"]["font"] == charts.FONT
