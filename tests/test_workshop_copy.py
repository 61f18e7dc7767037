"""Working copies of the notebooks: whatever is changed, and by whom, no learner's work is lost."""

import json
import os
import re
import shutil
import textwrap
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient

import run
from helpers import PROJECT_ROOT
from helpers.execute import NOTEBOOKS
from tests.support.linux import mounted, needs_mount
from tests.support.processes import python, run_python, started
from workshop import copy
from workshop.merge import COPY_KEY, NOTE_KEY, merge

NAME = "01_lesson.ipynb"


def text(name, source):
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def code(name, source, outputs=(), **metadata):
    printed = [{"output_type": "stream", "name": "stdout", "text": line} for line in outputs]
    return {
        "cell_type": "code",
        "id": name,
        "metadata": metadata,
        "source": source,
        "outputs": printed,
        "execution_count": len(printed) or None,
    }


def notebook(*cells):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}


LESSON = notebook(
    text("title", "# A lesson"),
    code("load", "x = 1", ["1"]),
    text("ex1", "Exercise"),
    code("ex1-start", "answer = None"),
    text("ex1-help", "A hint"),
    text("summary", "The end"),
)


class Room:
    """A series with one notebook, and a learner's folder."""

    def __init__(self, folder):
        self.series, self.folder = folder / "series", folder / "mine"
        self.path = self.folder / NAME
        (self.series / "images").mkdir(parents=True)
        (self.series / "images" / "way.svg").write_text("<svg/>")
        self.publish(LESSON)

    def publish(self, lesson):
        (self.series / NAME).write_bytes(copy.dump(lesson))

    def update(self, *, fresh=(), dry_run=False):
        update = copy.Update(self.series, self.folder, dry_run=dry_run)
        update.run(fresh)
        return update

    def mine(self):
        return copy.parse(self.path.read_bytes())

    def save(self, lesson):
        self.path.write_bytes(copy.dump(lesson))

    def sources(self):
        return {cell["id"]: cell["source"] for cell in self.mine()["cells"]}

    def files(self):
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def former(self):
        """Former versions in the backup, oldest first."""
        return [path.read_bytes() for path in sorted(self.folder.glob(f".backup/*/{NAME}"))]


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    room.update()
    return room


def changed(lesson, **sources):
    """A notebook with other texts in some cells; a name's `_` stands for `-`."""
    lesson = deepcopy(lesson)
    for cell in lesson["cells"]:
        cell["source"] = sources.get(cell["id"].replace("-", "_"), cell["source"])
    return lesson


# --- what becomes of each cell --------------------------------------------------------------------


def test_a_copy_has_the_cells_and_pictures_of_its_original(room):
    assert room.mine()["cells"] == LESSON["cells"]
    assert (room.folder / "images" / "way.svg").read_text() == "<svg/>"


def test_a_changed_cell_stays_and_an_unchanged_one_takes_the_new_text(room, capsys):
    room.save(changed(room.mine(), ex1_start="answer = 42"))
    room.publish(changed(LESSON, ex1_help="A better hint", load="x = 2"))
    room.update()
    assert room.sources() == {
        "title": "# A lesson",
        "load": "x = 2",
        "ex1": "Exercise",
        "ex1-start": "answer = 42",
        "ex1-help": "A better hint",
        "summary": "The end",
    }
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{NAME}: updated: load, ex1-help; changed by you, kept: ex1-start"
    )


def test_a_cell_changed_by_both_stays_and_the_new_version_follows_as_text(room, capsys):
    room.save(changed(room.mine(), ex1_start="answer = 42"))
    room.publish(changed(LESSON, ex1_start="answer = []  # ```"))
    room.update()
    names = list(room.sources())
    assert names[3:5] == ["ex1-start", "ex1-start-new"]
    assert room.sources()["ex1-start"] == "answer = 42"
    note = room.mine()["cells"][4]
    assert note["cell_type"] == "markdown", "running all cells must not undo the learner's answer"
    assert "\n````python\nanswer = []  # ```\n````" in note["source"]
    assert "the new version below it: ex1-start" in capsys.readouterr().out


def test_a_new_version_makes_way_for_a_newer_one_and_goes_once_it_is_taken_over(room):
    room.save(changed(room.mine(), ex1_start="answer = 42"))
    for version in ("answer = []", "answer = {}"):
        room.publish(changed(LESSON, ex1_start=version))
        room.update()
    notes = [cell for cell in room.mine()["cells"] if NOTE_KEY in cell["metadata"]]
    assert len(notes) == 1 and "answer = {}" in notes[0]["source"]
    room.save(changed(room.mine(), ex1_start="answer = {}"))
    room.update()
    assert list(room.sources()) == [cell["id"] for cell in LESSON["cells"]]


def test_an_edited_note_belongs_to_the_learner(room):
    room.save(changed(room.mine(), ex1_start="answer = 42"))
    room.publish(changed(LESSON, ex1_start="answer = []"))
    room.update()
    room.save(changed(room.mine(), ex1_start_new="my notes"))
    room.publish(changed(LESSON, ex1_start="answer = {}"))
    room.update()
    assert list(room.sources())[3:6] == ["ex1-start", "ex1-start-new-2", "ex1-start-new"]
    assert room.sources()["ex1-start-new"] == "my notes"


def test_deleted_cells_stay_away_and_added_ones_stay_behind_their_predecessor(room):
    mine = room.mine()
    mine["cells"] = [cell for cell in mine["cells"] if cell["id"] != "ex1"]
    mine["cells"].insert(2, code("a1", "mine = 1"))
    room.save(mine)
    new = changed(LESSON, ex1="Exercise, clearer")
    new["cells"].insert(2, text("more", "More"))
    room.publish(new)
    room.update()
    assert list(room.sources()) == [
        "title", "load", "a1", "more", "ex1-start", "ex1-help", "summary",
    ]  # fmt: skip


def test_cells_removed_from_the_series_go_unless_they_were_changed(room, capsys):
    room.save(changed(room.mine(), load="x = 'mine'"))
    room.publish(notebook(*(c for c in LESSON["cells"] if c["id"] not in ("load", "ex1-help"))))
    room.update()
    assert list(room.sources()) == ["title", "load", "ex1", "ex1-start", "summary"]
    assert room.sources()["load"] == "x = 'mine'"
    said = capsys.readouterr().out
    assert "no longer in the series, kept: load" in said and "as in the series: ex1-help" in said


def test_cells_that_the_series_moved_take_the_learners_cells_with_them(room):
    mine = room.mine()
    mine["cells"].insert(2, code("a1", "mine = 1"))  # behind load
    room.save(mine)
    title, load, *rest = LESSON["cells"]
    room.publish(notebook(title, *rest, load))
    room.update()
    assert list(room.sources())[-3:] == ["summary", "load", "a1"]


def test_cells_that_the_learner_moved_stay_there(room):
    mine = room.mine()
    mine["cells"].append(mine["cells"].pop(1))
    room.save(mine)
    new = changed(LESSON, load="x = 2")
    new["cells"].insert(3, text("more", "More"))
    room.publish(new)
    room.update()
    assert list(room.sources()) == [
        "title", "ex1", "more", "ex1-start", "ex1-help", "summary", "load",
    ]  # fmt: skip
    assert room.sources()["load"] == "x = 2"


def test_a_new_cell_does_not_follow_a_cell_that_the_learner_moved_away(room):
    mine = room.mine()
    mine["cells"].append(mine["cells"].pop(1))
    room.save(mine)
    new = deepcopy(LESSON)
    new["cells"].insert(2, text("more", "More"))  # behind load
    room.publish(new)
    room.update()
    assert list(room.sources())[:2] == ["title", "more"]


def test_of_a_cell_that_both_moved_the_learners_place_counts(room):
    mine, new = room.mine(), deepcopy(LESSON)
    mine["cells"].append(mine["cells"].pop(1))
    new["cells"].insert(4, new["cells"].pop(1))
    room.save(mine)
    room.publish(new)
    room.update()
    assert list(room.sources())[-1] == "load"


def test_a_cell_that_was_cut_and_pasted_is_still_known_by_its_text(room):
    mine = room.mine()
    mine["cells"].append({**mine["cells"].pop(1), "id": "b45ac1d2"})  # as JupyterLab does
    room.save(mine)
    room.publish(changed(LESSON, load="x = 2"))
    room.update()
    assert list(room.sources().items())[-1] == ("load", "x = 2")


def test_a_learners_outputs_and_folded_cells_stay_and_are_no_change(room):
    mine = room.mine()
    mine["cells"][1] = code("load", "x = 1", ["a learner's output"], collapsed=True)
    room.save(mine)
    new = changed(LESSON, ex1="Exercise 1")
    new["cells"][1] = code("load", "x = 1", ["a new output"], tags=["slow"])
    room.publish(new)
    room.update()
    load = room.mine()["cells"][1]
    assert load == code("load", "x = 1", ["a learner's output"], collapsed=True, tags=["slow"])
    new["cells"][1] = code("load", "x = 3", ["3"])
    room.publish(new)
    room.update()
    assert room.mine()["cells"][1] == code("load", "x = 3", ["3"], collapsed=True)


def test_new_outputs_arrive_where_the_learner_has_not_run_the_cell(room, capsys):
    new = deepcopy(LESSON)
    new["cells"][1]["outputs"][0]["text"] = "one"
    room.publish(new)
    room.update()
    assert room.mine()["cells"] == new["cells"]
    assert "with new outputs: load" in capsys.readouterr().out


def test_a_change_of_line_endings_is_no_change(room):
    mine = room.mine()
    for cell in mine["cells"]:
        cell["source"] = cell["source"] + "\r\nline"
    windows = copy.dump(mine).replace(b"\n", b"\r\n")
    base = deepcopy(LESSON)
    for cell in base["cells"]:
        cell["source"] += "\nline"
    new = changed(base, load="x = 2")
    merged, events = merge(base, copy.parse(windows), new)
    assert events == {"updated": ["load"]} and len(merged["cells"]) == len(LESSON["cells"])


# --- notebooks in every condition -----------------------------------------------------------------


def test_cells_without_ids_from_an_older_format_are_known_by_their_text(room):
    old = changed(room.mine(), ex1_start="answer = None  # mine")
    old["nbformat_minor"] = 4
    for cell in old["cells"]:
        del cell["id"]
    room.save(old)
    room.publish(changed(LESSON, ex1_help="A better hint"))
    room.update()
    assert list(room.sources()) == [cell["id"] for cell in LESSON["cells"]]
    assert room.sources()["ex1-start"] == "answer = None  # mine"
    assert room.sources()["ex1-help"] == "A better hint"
    nbformat.validate(nbformat.from_dict(room.mine()))


def test_a_notebook_of_the_third_format_is_read(room):
    cell = {"cell_type": "code", "input": "x = 1", "outputs": [], "language": "python"}
    third = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}}
    third["worksheets"] = [{"cells": [{**cell, "metadata": {}}], "metadata": {}}]
    room.path.write_text(json.dumps(third))
    room.publish(changed(LESSON, load="x = 2"))
    room.update()
    assert room.sources() == {"load": "x = 2"}


def test_of_two_cells_with_one_id_both_stay(room):
    mine = room.mine()
    mine["cells"].insert(2, code("load", "x = 'mine'"))
    room.save(mine)
    room.publish(changed(LESSON, load="x = 2"))
    room.update()
    cells = room.mine()["cells"]
    assert [cell["source"] for cell in cells[1:3]] == ["x = 2", "x = 'mine'"]
    assert cells[1]["id"] == "load" and cells[2]["id"] not in ("load", "")


def test_a_damaged_original_is_reported_and_the_copy_left_alone(room, capsys):
    before = room.path.read_bytes()
    (room.series / NAME).write_text("<<<<<<< HEAD")
    assert room.update().failed and room.path.read_bytes() == before
    assert f"git checkout -- notebooks/{NAME}" in capsys.readouterr().err


def test_an_id_that_the_format_does_not_allow_is_replaced(room):
    mine = room.mine()
    mine["cells"].append(code("not allowed!", "mine = 1"))
    room.save(mine)
    room.update()
    nbformat.validate(nbformat.from_dict(room.mine()))
    assert room.mine()["cells"][-1]["source"] == "mine = 1"


def test_a_record_of_an_original_that_was_edited_is_not_trusted(room, capsys):
    (record,) = (room.folder / ".originals" / "01_lesson").iterdir()
    record.write_bytes(copy.dump(changed(LESSON, ex1_start="answer = 42")))
    room.save(changed(room.mine(), ex1_start="answer = 42"))
    room.publish(changed(LESSON, load="x = 2"))
    room.update()
    assert room.sources()["ex1-start"] == "answer = 42"
    assert "is not known" in capsys.readouterr().out


@pytest.mark.parametrize("damaged", [b"", b'{"cells": [', b"[]", b'{"nbformat": 4}', b"\xff\xfe{"])
def test_a_file_that_is_no_notebook_is_reported_and_left_alone(room, capsys, damaged):
    room.path.write_bytes(damaged)
    room.publish(changed(LESSON, load="x = 2"))
    assert room.update().failed and room.path.read_bytes() == damaged
    assert f"python run.py workshop copy --fresh {NAME}" in capsys.readouterr().err
    room.update(fresh=[NAME])
    assert room.sources()["load"] == "x = 2"
    (aside,) = room.folder.glob("01_lesson.2*.ipynb")
    assert aside.read_bytes() == damaged


def test_half_a_surrogate_pair_and_a_byte_order_mark_do_no_harm(room):
    mine = changed(room.mine(), ex1_start="answer = '\ud83d'")
    room.path.write_bytes(b"\xef\xbb\xbf" + copy.dump(mine))
    room.publish(changed(LESSON, load="x = 2"))
    room.update()
    assert room.sources()["ex1-start"] == "answer = '\ud83d'" and room.sources()["load"] == "x = 2"


def test_a_learners_own_files_and_pictures_are_not_touched(room, capsys):
    (room.folder / "own.ipynb").write_text("mine")
    (room.folder / "images" / "way.svg").write_text("my picture")
    (room.series / "images" / "way.svg").write_text("a new picture")
    room.update()
    assert (room.folder / "own.ipynb").read_text() == "mine"
    assert (room.folder / "images" / "way.svg").read_text() == "my picture"
    assert "images/way.svg: changed by you, kept" in capsys.readouterr().out


def test_an_unchanged_picture_is_updated(room):
    (room.series / "images" / "way.svg").write_text("a new picture")
    room.update()
    assert (room.folder / "images" / "way.svg").read_text() == "a new picture"


def test_a_deleted_notebook_does_not_come_back_unless_asked_for(room, capsys):
    room.path.unlink()
    room.update()
    assert not room.path.exists() and f"--fresh {NAME}" in capsys.readouterr().out
    room.update(fresh=[NAME])
    assert room.mine()["cells"] == LESSON["cells"]


def test_a_notebook_that_left_the_series_stays(room, capsys):
    (room.series / NAME).unlink()
    room.update()
    assert room.path.exists() and "no longer in the series; kept" in capsys.readouterr().out


# --- nothing is lost ------------------------------------------------------------------------------


def test_a_second_update_writes_nothing(room):
    room.save(changed(room.mine(), ex1_start="answer = 42"))
    room.publish(changed(LESSON, ex1_start="answer = []", load="x = 2"))
    room.update()
    before = room.files()
    assert not room.update().overwritten
    assert room.files() == before


def test_the_former_version_is_kept_and_old_ones_go(room, monkeypatch):
    monkeypatch.setattr(copy, "KEPT", 3)
    seconds = iter(range(100, 200))
    monkeypatch.setattr(copy, "_now", lambda: f"run-{next(seconds)}")
    versions = []
    for number in range(5):
        versions.append(room.path.read_bytes())
        room.publish(changed(LESSON, load=f"x = {number + 2}"))
        room.update()
    assert room.former() == versions[-3:]
    assert len(list((room.folder / ".originals" / "01_lesson").iterdir())) == 3


def test_an_original_that_was_used_lately_is_kept_however_old_it_is(room, monkeypatch):
    monkeypatch.setattr(copy, "KEPT", 3)
    for source in ("x = 2", "x = 3", "x = 1"):  # the series goes back to where it began
        room.publish(changed(LESSON, load=source))
        room.update()
    in_browser = changed(room.mine(), ex1_start="answer = 42")
    room.publish(changed(LESSON, load="x = 4"))
    room.update()
    room.save(in_browser)
    room.update()
    assert room.sources()["load"] == "x = 4" and room.sources()["ex1-start"] == "answer = 42"


def test_two_runs_within_a_second_have_backups_of_their_own(room):
    for number in range(2):
        room.publish(changed(LESSON, load=f"x = {number + 2}"))
        room.update()
    assert len(room.former()) == 2


def test_a_state_saved_over_an_update_by_jupyterlab_is_updated_again(room):
    """The learner had it open, and chose to overwrite the file."""
    in_browser = changed(room.mine(), ex1_start="answer = 42")
    new = changed(LESSON, load="x = 2")
    new["cells"].insert(2, text("more", "More"))
    room.publish(new)
    room.update()
    room.save(in_browser)
    room.update()
    assert room.sources()["load"] == "x = 2" and "more" in room.sources()
    assert room.sources()["ex1-start"] == "answer = 42"


def test_a_notebook_saved_while_it_is_merged_is_merged_again(room, monkeypatch):
    room.publish(changed(LESSON, load="x = 2"))
    calls = []

    def save_first(*arguments):
        if not calls:
            room.save(changed(room.mine(), ex1_start="answer = 42"))
        calls.append(arguments)
        return merge(*arguments)

    monkeypatch.setattr(copy, "merge", save_first)
    room.update()
    assert len(calls) == 2
    assert room.sources()["load"] == "x = 2" and room.sources()["ex1-start"] == "answer = 42"


def test_without_the_record_of_originals_everything_is_still_there(room, capsys):
    shutil.rmtree(room.folder / ".originals")
    room.save(changed(room.mine(), ex1_start="answer = 42"))
    room.publish(changed(LESSON, load="x = 2"))
    room.update()
    assert room.sources()["ex1-start"] == "answer = 42" and room.sources()["load"] == "x = 1"
    assert "x = 2" in room.sources()["load-new"], "who changed it cannot be known"
    assert "is not known" in capsys.readouterr().out


def test_a_dry_run_says_the_same_and_writes_nothing(room, capsys):
    room.publish(changed(LESSON, load="x = 2"))
    (room.series / "images" / "more.svg").write_text("<svg/>")
    before = room.files()
    capsys.readouterr()
    room.update(dry_run=True)
    said = capsys.readouterr().out
    assert room.files() == before and "updated: load" in said
    room.update()
    assert capsys.readouterr().out == said


# --- any edits ------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["change", "delete", "add", "move", "run"]),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    max_size=8,
)
STILL = OPERATIONS.map(lambda edits: [edit for edit in edits if edit[0] != "move"])


def edited(lesson, edits, who):
    """A notebook after edits; every text that they write contains `who`, and is written once."""
    lesson = deepcopy(lesson)
    cells = lesson["cells"]
    for number, (what, at, to) in enumerate(edits):
        if what == "add":
            cells.insert(at % (len(cells) + 1), code(f"{who}{number}", f"{who} added {number}"))
        elif not cells:
            continue
        elif what == "change":
            cells[at % len(cells)]["source"] = f"{who} wrote {number}"
        elif what == "delete":
            del cells[at % len(cells)]
        elif what == "move":
            cell = cells.pop(at % len(cells))
            cells.insert(to % (len(cells) + 1), cell)
        elif cells[at % len(cells)]["cell_type"] == "code":
            cells[at % len(cells)]["outputs"] = code("", "", [f"{who} ran {number}"])["outputs"]
    return lesson


def by_name(lesson):
    return {cell["id"]: cell for cell in lesson["cells"]}


def merged_after(by_learner, by_series):
    base = deepcopy(LESSON)
    mine, new = edited(base, by_learner, "learner"), edited(base, by_series, "series")
    return base, mine, new, merge(base, mine, new)[0]


@given(OPERATIONS, OPERATIONS)
def test_any_edits_every_text_of_the_learner_is_in_the_result(by_learner, by_series):
    _, mine, _, result = merged_after(by_learner, by_series)
    written = [c["source"] for c in mine["cells"] if "learner" in c["source"]]
    kept = [c["source"] for c in result["cells"] if "learner" in c["source"]]
    assert sorted(kept) == sorted(written)


@given(OPERATIONS, OPERATIONS)
def test_any_edits_every_other_cell_is_the_new_series(by_learner, by_series):
    base, mine, new, result = merged_after(by_learner, by_series)
    before, mine, latest, after = map(by_name, (base, mine, new, result))
    for name, cell in mine.items():
        if name in before and cell["source"] == before[name]["source"]:
            found = after.get(name)
            assert (found and found["source"]) == (
                (name in latest and latest[name]["source"]) or None
            )
    for name in latest:
        assert (name in after) == (name in mine or name not in before)
    for name, cell in after.items():  # what the learner ran stays with the code that was run
        if (
            name in mine
            and cell["source"] == mine[name]["source"]
            and "learner ran" in str(mine[name].get("outputs"))
        ):
            assert cell["outputs"] == mine[name]["outputs"]


@given(OPERATIONS, OPERATIONS)
def test_any_edits_a_second_update_changes_nothing(by_learner, by_series):
    _, _, new, result = merged_after(by_learner, by_series)
    assert merge(new, result, new)[0] == result
    nbformat.validate(nbformat.from_dict(result))
    assert len(by_name(result)) == len(result["cells"])


def restricted(lesson, names):
    return [cell["id"] for cell in lesson["cells"] if cell["id"] in names]


@given(STILL, OPERATIONS)
def test_where_the_learner_moved_nothing_the_order_is_the_series(by_learner, by_series):
    _, _, new, result = merged_after(by_learner, by_series)
    assert restricted(result, by_name(new)) == restricted(new, by_name(result))


@given(OPERATIONS, STILL)
def test_where_the_series_moved_nothing_the_order_is_the_learners(by_learner, by_series):
    _, mine, _, result = merged_after(by_learner, by_series)
    assert restricted(result, by_name(mine)) == restricted(mine, by_name(result))


@given(OPERATIONS, OPERATIONS)
def test_any_edits_added_cells_stay_behind_their_predecessor(by_learner, by_series):
    base, mine, _, result = merged_after(by_learner, by_series)
    own = [cell["id"] for cell in mine["cells"] if cell["id"] not in by_name(base)]
    here, there = [c["id"] for c in mine["cells"]], restricted(result, by_name(mine))
    for name in own:
        if (at := here.index(name)) and here[at - 1] in there:
            assert there[there.index(name) - 1] == here[at - 1]


# --- faults while it writes -----------------------------------------------------------------------

KILLED = """
    import os, sys
    from pathlib import Path
    from workshop import copy
    out, sys.stdout = sys.stdout, open(os.devnull, "w")
    replace, left = os.replace, iter(range(int(sys.argv[3]) - 1, -1, -1))
    def pausing(source, target):
        if next(left, None) == 0:
            print("now", file=out, flush=True)
            sys.stdin.readline()
        replace(source, target)
    os.replace = pausing
    copy.Update(Path(sys.argv[1]), Path(sys.argv[2])).run()
    print("done", file=out, flush=True)
"""


def test_an_update_killed_before_any_of_its_writes_loses_nothing(tmp_path):
    """At each point where a written file takes its place, in a process of its own."""
    for number in range(1, 20):
        room = Room(tmp_path / str(number))
        room.update()
        mine = changed(room.mine(), ex1_start="answer = 42")
        room.save(mine)
        room.publish(changed(LESSON, load="x = 2", ex1_start="answer = []"))
        (room.series / "images" / "way.svg").write_text("a new picture")
        with started(KILLED, room.series, room.folder, number) as update:
            reached = update.stdout.readline()
        assert room.mine() == mine or "ex1-start-new" in room.sources()
        room.update()
        assert list(room.sources())[3:5] == ["ex1-start", "ex1-start-new"]
        assert room.sources()["ex1-start"] == "answer = 42" and room.sources()["load"] == "x = 2"
        assert (room.folder / "images" / "way.svg").read_text() == "a new picture"
        assert copy.dump(mine) in room.former()
        if reached == "done\n":
            break
    assert number == 6, "original, backup, copy, picture, record, and one that was not killed"


FIRST = """
    import sys
    from pathlib import Path
    from workshop import copy
    update = copy.Update(*map(Path, sys.argv[1:3]))
    update.run()
    sys.exit(update.failed)
"""

ON_A_FULL_DISK = """
    import os, shutil, sys
    from pathlib import Path
    from workshop import copy
    series, folder = map(Path, sys.argv[1:3])
    copy.Update(series, folder).run()
    path = folder / "01_lesson.ipynb"
    before = path.read_bytes()
    lesson = series / path.name
    lesson.write_bytes(lesson.read_bytes().replace(b"x = 1", b"x = 2 " + b"#" * 5000))
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
    except OSError:
        pass
    update = copy.Update(series, folder)
    update.run()
    assert update.failed and path.read_bytes() == before
    assert not list(folder.rglob("*.part"))
    filler.unlink()
    update = copy.Update(series, folder)
    update.run()
    assert not update.failed and b"x = 2" in path.read_bytes()
"""


@needs_mount
def test_on_a_full_disk_a_copy_stays_as_it_was(tmp_path):
    room = Room(tmp_path)
    room.folder.mkdir()
    within = mounted("-t", "tmpfs", "-o", "size=256k", "tmpfs", room.folder)
    done = python(ON_A_FULL_DISK, room.series, room.folder, within=within)
    assert done.returncode == 0, done.stderr
    assert "Is the disk full" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows sets no limits on files")
def test_where_a_file_cannot_grow_a_copy_stays_as_it_was(room):
    room.publish(changed(LESSON, load="x = 2 " + "#" * 5000))
    before = room.path.read_bytes()
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (4000, 4000))\n"
    done = python(limit + textwrap.dedent(FIRST), room.series, room.folder)
    assert done.returncode == 1 and "not updated" in done.stderr
    assert room.path.read_bytes() == before and not list(room.folder.rglob("*.part"))


@needs_mount
def test_in_a_folder_that_is_read_only_it_says_so(room):
    room.publish(changed(LESSON, load="x = 2"))
    before = room.files()
    within = mounted("-o", "bind,ro", room.folder, room.folder)
    done = python(FIRST, room.series, room.folder, within=within)
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr and room.files() == before


# --- the command, with the real notebooks ---------------------------------------------------------


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies") / "my notebooks"
    done = run_python("-m", "workshop", "copy", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_command_copies_every_notebook_of_the_series(copies):
    originals = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert len(originals) >= 4
    for original in originals:
        mine = nbformat.read(copies / original.name, as_version=4)
        assert mine.cells == nbformat.read(original, as_version=4).cells
        assert mine.metadata.pop(COPY_KEY) and mine.metadata.kernelspec.name == "python3"


def test_a_second_command_says_that_all_is_up_to_date(copies):
    done = run_python("-m", "workshop", "copy", copies, "--dry-run")
    lines = [line for line in done.stdout.splitlines() if ".ipynb" in line]
    assert len(lines) >= 4 and all(line.endswith(": up to date") for line in lines)


def test_the_chinese_edition_is_copied_beside_it_and_updated_with_it_from_then_on(tmp_path):
    done = run_python("-m", "workshop", "copy", tmp_path, "--chinese")
    assert done.returncode == 0, done.stderr
    for original in (NOTEBOOKS / "zh").glob("*.ipynb"):
        mine = nbformat.read(tmp_path / "zh" / original.name, as_version=4)
        assert mine.cells == nbformat.read(original, as_version=4).cells
    assert (tmp_path / "images" / "03-attention.svg").is_file(), "links lead to ../images"
    again = run_python("-m", "workshop", "copy", tmp_path)
    assert again.stdout.count(": up to date") == 8


def test_every_link_of_a_copy_in_the_default_place_leads_somewhere(copies):
    """Beside the originals, `../` leads to the same folders; the rest has to be copied."""
    beside = PROJECT_ROOT / copy.DEFAULT
    for path in copies.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", cell.source):
                if cell.cell_type == "markdown":
                    there = (copies / target).exists() or (
                        target.startswith("../")
                        and Path(os.path.normpath(beside / target)).exists()
                    )
                    assert there, f"{path.name}, {cell.id}: {target}"


@pytest.mark.slow
def test_a_copied_notebook_runs_where_it_is(copies):
    """Its first cells, which load the model through the installed package."""
    mine = nbformat.read(copies / "02_input_embeddings.ipynb", as_version=4)
    mine.cells = mine.cells[:6]
    NotebookClient(
        mine, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(copies)}}
    ).execute()
    assert [c.execution_count for c in mine.cells if c.cell_type == "code"][-1] > 1


@pytest.mark.parametrize("folder", [NOTEBOOKS, NOTEBOOKS / "mine", PROJECT_ROOT, "run.py"])
def test_a_folder_that_cannot_hold_copies_is_refused(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        copy.main([str(folder)])
    assert ended.value.code == 2 and "cannot hold the copies" in capsys.readouterr().err


def test_run_py_opens_the_copies_and_git_leaves_them_alone():
    assert run.lab_arguments([copy.DEFAULT]) == [copy.DEFAULT]
    assert f"{copy.DEFAULT}/" in (PROJECT_ROOT / ".gitignore").read_text(encoding="utf-8").split()
