"""Collections in BEIR layout, measures and their intervals."""

import shutil

import numpy as np
import pytest

from helpers import PROJECT_ROOT, retrieval


@pytest.fixture
def broken(tmp_path):
    shutil.copytree(PROJECT_ROOT / "data" / "country", tmp_path / "country")
    return tmp_path / "country"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("corpus.jsonl", lambda text: text[:-40], r"corpus\.jsonl, line 294"),
        ("corpus.jsonl", lambda text: text + text.splitlines()[0] + "\n", "an id twice"),
        (
            "queries.jsonl",
            lambda text: text.replace('"_id": "cq001"', '"id": "cq001"'),
            r"queries\.jsonl, line 1",
        ),
        (
            "qrels/test.tsv",
            lambda text: text + "cq001\tnowhere\t1\n",
            "points to no query or document",
        ),
        ("qrels/test.tsv", lambda text: text + "cq001\n", "expected query-id"),
    ],
)
def test_a_damaged_collection_is_named_with_its_line(broken, file, change, message):
    path = broken / file
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        retrieval.load_beir(broken)


def test_a_missing_file_is_named_with_the_command_that_restores_it(broken):
    (broken / "queries.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"queries\.jsonl is missing.*git checkout -- data"):
        retrieval.load_beir(broken)


# --- passages from one's own files ----------------------------------------------------------------

SENTENCES = ["A bond is a loan.", "Cash is king."]
FILES = {
    "paragraphs.txt": "A bond is\na  loan.\n\n \t\n\nCash is king.\n\nCash is king.",
    "windows.TXT": "A bond is\r\na loan.\r\n\r\nCash is king.\r\n",
    "mark.txt": "\ufeffA bond is a loan.\n\nCash is king.",
    "notes.md": "A bond is a loan.\n\nCash is king.\n",
    "text.csv": "id,text,more\n1,A bond is a loan.,and a good deal more\n2,Cash is king.,x\n",
    "semicolons.csv": "id;text\n1;A bond is a loan.\n2;Cash is king.\n",
    "longest.csv": "id,body\n1,A bond is a loan.\n2,Cash is king.\n",
    "marked.csv": "\ufefftext,id\r\nA bond is a loan.,1\r\nCash is king.,2\r\n",
    "empty-cells.csv": "id,text\n1,A bond is a loan.\n2,\n3\n\n4,  \n5,Cash is king.\n",
    "quoted.csv": 'id,text\n1,"A bond is\n\na loan."\n2,"Cash is king."\n',
    "rows.jsonl": '{"_id":1,"title": "A", "text": "bond is a loan."}\n{"text": "Cash is king."}\n',
    "marked.jsonl": '\ufeff{"text": "A bond is a loan."}\r\n\r\n{"text": "Cash is king."}\r\n',
}


def put(folder, files):
    """Files with their contents, by their path in a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", FILES)
def test_passages_of_a_file_are_its_paragraphs_or_rows(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name].encode())
    for path in (tmp_path / name, str(tmp_path / name), tmp_path):
        assert retrieval.read_passages(path) == SENTENCES


def test_a_column_of_a_table_can_be_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("text,notes\nlong enough,NA\nlong,null\n,007\n", encoding="utf-8")
    assert retrieval.read_passages(path, column="notes") == ["NA", "null", "007"]
    with pytest.raises(ValueError, match=r"table\.csv has no column 'x'; it has 'text', 'notes'"):
        retrieval.read_passages(path, column="x")


def test_a_folder_gives_its_files_by_name_without_hidden_ones(tmp_path):
    files = {
        "b.txt": "second",
        "a.md": "first\n\nsecond",
        "deep/c.csv": "text\nthird\n",
        "picture.png": b"\x89PNG",
        ".notes.txt": "hidden",
        "deep/._c.csv": b"\x00\x05\x16\x07\xff",  # as macOS leaves them
        ".git/d.txt": "hidden",
        "like.txt/e.md": "fourth",
        "empty.csv": "",
        "empty.txt": "",
        "empty.jsonl": "",
    }
    put(tmp_path, files)
    every = ["first", "second", "third", "fourth"]
    assert retrieval.read_passages(tmp_path) == every
    assert retrieval.read_passages(tmp_path / ".git" / "..") == every
    assert retrieval.read_passages(tmp_path / "like.txt") == ["fourth"], "a folder, by its name"
    assert retrieval.read_passages(tmp_path / ".notes.txt") == ["hidden"], "it was named"


def test_a_collection_in_beir_layout_gives_its_corpus_alone():
    passages = retrieval.read_passages(PROJECT_ROOT / "data" / "country")
    corpus, _, _ = retrieval.load_beir(PROJECT_ROOT / "data" / "country")
    assert passages == retrieval.texts(corpus)


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    put(tmp_path, {"mine.txt": "Cash is king."})
    assert retrieval.read_passages("~/mine.txt") == ["Cash is king."]


@pytest.mark.parametrize(
    "path", ["gone", "gone.txt", "~nobody-here/x", "a\0b", "A bond is a loan. " * 500, "a\ud83d"]
)
def test_a_path_that_is_not_there_is_named_briefly(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist; give a file or a folder") as error:
        retrieval.read_passages(path)
    assert len(str(error.value)) < 200 and str(error.value).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"%PDF", r"a\.pdf is of another kind.*\.csv, \.jsonl, \.md, \.txt"),
        ("README", b"text", "README is of another kind"),
        *(
            (f"a.{kind}", b"text\n\xe9t\xe9\n", "not UTF-8")
            for kind in ("txt", "md", "csv", "jsonl")
        ),
        ("wide.csv", "text\nété\n".encode("utf-16"), r"wide\.csv is not UTF-8"),
        *((f"a.{kind}", b"", "has no passages") for kind in ("txt", "md", "csv", "jsonl")),
        ("a.txt", b" \n\n\t\n", "has no passages"),
        ("a.csv", b"id,text\n", "has no passages"),
        ("a.csv", b"text\n\n \n", "has no passages"),
        ("a.csv", b"id,text\n1,one, two\n", "more cells than the header"),
        ("a.csv", b"id,text\n1,one\n2,one, two, three\n", "more cells than the header"),
        ("a.csv", b'id,text\n1,"one\n', "a quote is not closed"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "x"}', "line 2: expected a JSON object with text"),
        ("a.jsonl", b'{"text": 5}', "line 1: expected a JSON object with text"),
        ("a.jsonl", b'"text"', "line 1"),
        ("a.jsonl", b'{"text": "x"', "line 1"),
        ("a.jsonl", b'{"text": "\\ud83d"}', "line 1.*surrogates not allowed"),
    ],
)
def test_a_file_without_passages_is_refused_with_the_reason(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        retrieval.read_passages(tmp_path / name)
    assert type(error.value) is ValueError and str(tmp_path) not in str(error.value)


def test_a_folder_without_passages_is_refused_and_a_bad_file_in_it_named(tmp_path):
    put(tmp_path, {"mine/picture.png": b"\x89PNG", "mine/a.txt": ""})
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ValueError, match=f"'{folder.name}' has no passages"):
            retrieval.read_passages(folder)
    put(tmp_path, {"b.txt": "good", "c.md": b"\xff"})
    with pytest.raises(ValueError, match=r"^c\.md is not UTF-8"):
        retrieval.read_passages(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    put(tmp_path, {"mine.txt": "x"})
    path = tmp_path / "mine.txt"

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_text", refuse)  # root may read everything
    with pytest.raises(ValueError, match=r"^mine\.txt cannot be opened: Permission denied$"):
        retrieval.read_passages(path)


# --- measures -------------------------------------------------------------------------------------


def test_measures_agree_with_the_formulas():
    qrels = {"a": {"y": 1, "z": 1}, "b": {"x": 1}}
    table = retrieval.measure([[3, 2, 1], [3, 2, 1]], ["a", "b"], ["x", "y", "z"], qrels)
    ideal = 1 + 1 / np.log2(3)
    assert table.loc["a", "nDCG@10"] == pytest.approx((1 / np.log2(3) + 1 / 2) / ideal)
    assert (table.loc["a", "R@10"], table.loc["a", "RR@10"], table.loc["b", "RR@10"]) == (
        1.0,
        0.5,
        1.0,
    )


def test_the_bootstrap_is_reproducible_and_covers_its_mean():
    values = np.random.default_rng(0).normal(0.3, 1, 200)
    first = retrieval.bootstrap(values)
    assert first == retrieval.bootstrap(values)
    assert first.low < first.mean < first.high
    assert first.high - first.low == pytest.approx(4 * values.std() / np.sqrt(200), rel=0.1)
