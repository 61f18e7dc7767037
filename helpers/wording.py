"""What a translation must keep, and how it is worded: checks of one text against another.

The terms are those of `notebooks/zh/glossary.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from functools import cache
from itertools import pairwise
from string import Formatter
from typing import Any

from . import PROJECT_ROOT

GLOSSARY = PROJECT_ROOT / "notebooks" / "zh" / "glossary.toml"
CODE = re.compile(r"(^```.*?^```|(?<!`)`[^`\n]+`)", re.M | re.S)
MATH = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$", re.S)
LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))|<https?://[^>\s]+>")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])(?:(?<!\S)[+-]|(?<=\[)[+-])?\d[\d,]*(?:\.\d+)?")
PLACE = re.compile(r"\{[a-z_]\w*(?:[.:!][^{}]*)?\}")
SHAPE = re.compile(r"^(#+|>|[-*]|\d+\.|\|)(?=[ |])|(</?(?:details|summary)>)", re.M)

CHINESE = r"[\u3400-\u4dbf\u4e00-\u9fff]"
NARROW = [  # (pattern, what is wrong); code is replaced by `x` before
    (rf"{CHINESE}\s?[,.:;?!](?![A-Za-z0-9_/])", "half-width punctuation after Chinese"),
    (rf"[,;:?!]\s?(?:\*\*)?{CHINESE}", "half-width punctuation before Chinese"),
    (rf"{CHINESE}\(|\({CHINESE}|{CHINESE}\)(?!\()", "half-width brackets around Chinese"),
    (rf"[\"']{CHINESE}|{CHINESE}[\"']", "straight quotes around Chinese"),
    (rf"{CHINESE}[A-Za-z0-9`]|[A-Za-z0-9`]{CHINESE}", "no space between Chinese and Latin"),
]

UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
TEENS = "fifteen sixteen seventeen eighteen nineteen"
VALUES = {word: value for value, word in enumerate(f"{UNITS} {TEENS}".split())}
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES |= {word: 10 * ten for ten, word in enumerate(TENS, start=2)}
VALUES |= {"hundred": 100, "thousand": 1000, "million": 1_000_000, "half": 0, "first": 1}
VALUES |= {"second": 2, "third": 3, "once": 1, "twice": 2, "both": 2, "single": 1}


@cache
def glossary() -> dict[str, dict[str, Any]]:
    """English term -> `zh`, its translation; `avoid`, what is not said; `always`, see the file."""
    return tomllib.loads(GLOSSARY.read_text(encoding="utf-8"))


def lost(english: str, chinese: str) -> list[str]:
    """What a translation must keep and does not: code, formulas, links, numbers, shape, places."""
    found = []
    code = [Counter(CODE.findall(text)) for text in (english, chinese)]
    found += _difference("code", code, counted=False)
    english, chinese = (CODE.sub("`x`", text) for text in (english, chinese))
    found += _difference("link", [Counter(LINK.findall(text)) for text in (english, chinese)])
    english, chinese = (LINK.sub("", text) for text in (english, chinese))
    math = [Counter(MATH.findall(text)) for text in (english, chinese)]
    found += _difference("formula", math, counted=False)
    english, chinese = (MATH.sub("", text) for text in (english, chinese))
    found += _difference("placeholder", [Counter(PLACE.findall(t)) for t in (english, chinese)])
    numbers = [Counter(_numbers(PLACE.sub("", text))) for text in (english, chinese)]
    for word in set(numbers[1]) & _in_words(english):
        numbers[0][word] += 1  # "sixteen" may become 16
        numbers[1][word] += 1
    found += _difference("number", numbers, counted=False)
    shapes = [_shape(text) for text in (english, chinese)]
    if shapes[0] != shapes[1]:
        found.append(f"another structure: {' '.join(shapes[1])} instead of {' '.join(shapes[0])}")
    return found


def _difference(kind: str, counts: list[Counter[str]], *, counted: bool = True) -> list[str]:
    """What one of two texts holds and the other does not; a repetition counts if `counted`."""
    before, after = counts if counted else [Counter(set(count)) for count in counts]
    found = [f"{kind} {text!r} is lost" for text in (before - after)]
    return found + [f"{kind} {text!r} is not in the English text" for text in (after - before)]


def _numbers(text: str) -> list[str]:
    """Numbers in digits, without the commas of their thousands.

    >>> _numbers("1,536 of 3.5, -1 and [+7.0, MiniLM-L6")
    ['1536', '3.5', '-1', '+7.0']
    """
    return [number.replace(",", "") for number in NUMBER.findall(text)]


def _in_words(english: str) -> set[str]:
    """The values of the numbers that an English text spells.

    >>> sorted(_in_words("Forty-two questions about one bank"))
    ['1', '2', '40', '42']
    """
    words = re.findall(r"[a-z]+", english.lower())
    values = [VALUES.get(word.removesuffix("s"), VALUES.get(word)) for word in words]
    found = {value for value in values if value is not None}
    for ten, unit in pairwise(values):
        if ten and unit and 20 <= ten < 100 and unit < 10:
            found.add(ten + unit)
    return {str(value) for value in found}


def _shape(text: str) -> list[str]:
    """Headings, quotes, list items, table rows and folded parts, in order; lines of a quote as one.

    >>> _shape("# A\\n\\n> b\\n> c\\n\\n1. d")
    ['#', '>', '1.']
    """
    marks = [mark or tag for mark, tag in SHAPE.findall(text)]
    return [m for m, before in zip(marks, ["", *marks], strict=False) if (m, before) != (">", ">")]


def wording(english: str, chinese: str) -> list[str]:
    """Terms that are not those of the glossary, and punctuation that is not Chinese."""
    english, chinese = (LINK.sub("", CODE.sub("`x`", text)) for text in (english, chinese))
    found = []
    for term, entry in glossary().items():
        found += [
            f"{variant!r} for {term!r} (write: {entry['zh']})"
            for variant in entry.get("avoid", [])
            if variant in chinese
        ]
        if entry.get("always") and entry["zh"] not in chinese and _says(term, english):
            found.append(f"{term!r} without {entry['zh']!r}")
    plain = MATH.sub("$", re.sub(r"`x`", "`", chinese))
    for pattern, what in NARROW:
        for match in re.finditer(pattern, plain):
            place = plain[max(0, match.start() - 6) : match.end() + 6].replace("\n", " ")
            found.append(f"{what}: {place!r}")
    return found


def _says(term: str, english: str) -> bool:
    """Whether an English text uses a term, singular or plural; what looks like code does not count.

    >>> _says("token", "Six Tokens."), _says("token", "the tokenizer"), _says("Goal:", "**Goal:**")
    (True, False, True)
    >>> _says("token", "tokens.find_token(x)"), _says("norm", "np.linalg.norm")
    (False, False)
    """
    ending = r"(?:s|es)?(?![\w@(\[-]|\.\w|')" if term[-1].isalnum() else ""
    return bool(re.search(rf"(?<![\w.=\['-]){re.escape(term)}{ending}", english, re.I))


def places(text: str) -> Counter[str]:
    """The placeholders of a format string, each with its format; empty for text with odd braces."""
    try:
        fields = list(Formatter().parse(text))
    except ValueError:
        return Counter()
    return Counter(f"{{{name}:{form}}}" for _, name, form, _ in fields if name is not None)
