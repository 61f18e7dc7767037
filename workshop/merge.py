"""Three-way merge of a notebook, cell by cell: the original as copied, the learner's, the new one.

Notebooks are plain dictionaries in nbformat 4. A cell of the series is known by its id, which is a
stable name; who changed it is seen by comparing it with the original that was copied.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

Cell = dict[str, Any]
Notebook = dict[str, Any]

#: Metadata of a working copy: `{"version": ...}`, the original that it was made from.
COPY_KEY = "working_copy"
#: Metadata of a cell that shows a new version beside a changed cell: `{"of": ..., "hash": ...}`.
NOTE_KEY = "new_version"

SIMILAR = 0.6  # of 1: a cell that lost its id is still taken for the original it resembles
LONGEST_ID = 64  # characters, by the notebook format

NOTE = """\
**The series has changed the cell above.** You have changed it too, so yours was left as it is. \
The new version is shown here and is not run; copy from it what you want, then delete this cell.

{fence}{language}
{source}
{fence}"""


def digest(content: object) -> str:
    """SHA-256 of anything that JSON can express; the order of keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def content(cell: Cell) -> tuple[Any, ...]:
    """What makes a cell another cell: its type, text and attachments, not its outputs.

    >>> content({"cell_type": "code", "source": "a\\r\\nb", "outputs": [1]})
    ('code', 'a\\nb', {})
    """
    source = cell.get("source", "").replace("\r\n", "\n")
    return cell.get("cell_type"), source, cell.get("attachments") or {}


def merge(
    base: Notebook | None, mine: Notebook, new: Notebook
) -> tuple[Notebook, dict[str, list[str]]]:
    """The learner's notebook, with what the series changed since it was copied.

    Args:
        base: the original that `mine` was made from; None if it is not known. Then no cell can be
            told to be unchanged, and each that differs from `new` counts as changed by both.

    Returns:
        the merged notebook, and the ids of cells by what happened to them: `updated`, `outputs`
        (only these are new), `new`, `moved`, `removed`, `conflict` (changed by both: the learner's
        is kept, a cell with the new version follows), `kept` (changed by the learner), `left`
        (changed by the learner, no longer in the series), `own` (added by the learner), `deleted`
        (by the learner).
    """
    old = {cell["id"]: cell for cell in base["cells"]} if base else {}
    latest = {cell["id"]: cell for cell in new["cells"]}
    events: dict[str, list[str]] = defaultdict(list)
    cells = _named(mine["cells"], old, latest)
    taken = {cell["id"] for cell in cells} | set(latest)

    # A block is a cell of the series with the learner's own cells that follow it.
    head: list[Cell] = []
    blocks: dict[str, list[Cell]] = {}
    block = head
    conflicts = {cell["id"] for cell in cells if _is_conflict(cell, old, latest)}
    for cell in cells:
        name = cell["id"]
        if _is_note(cell) and _is_done(cell, cells, conflicts, latest):
            continue
        before, now = old.get(name), latest.get(name)
        if now is None and before is not None and content(cell) == content(before):
            events["removed"].append(name)
        elif now is None:
            if not _is_note(cell):
                events["own" if before is None else "left"].append(name)
            block.append(cell)
        else:
            merged, event = _merged_cell(before, cell, now)
            block = blocks[name] = [merged]
            if event:
                events[event].append(name)
            if name in conflicts:
                block.append(_note(now, taken))
                taken.add(block[-1]["id"])

    order = _ordered(old, blocks, latest, events)
    for name in latest:
        if name in old and name not in blocks:
            events["deleted"].append(name)
    arrived = {name: [deepcopy(latest[name])] for name in events["new"]}
    result = {**deepcopy(mine), "nbformat": 4}
    result["nbformat_minor"] = max(5, mine.get("nbformat_minor", 5), new.get("nbformat_minor", 5))
    result["metadata"] = _merged_keys(
        (base or {}).get("metadata", {}), mine.get("metadata", {}), new.get("metadata", {})
    )
    result["cells"] = head + [c for name in order for c in {**blocks, **arrived}[name]]
    return result, {event: names for event, names in events.items() if names}


# --- which cell is which --------------------------------------------------------------------------


def _named(cells: Iterable[Cell], old: dict[str, Cell], latest: dict[str, Cell]) -> list[Cell]:
    """Copies of the learner's cells, each with an id of its own.

    A cell that was cut and pasted has a new id, and tools that write the format of 2020 drop all
    ids: both are recognised by their text.
    """
    cells = [deepcopy(cell) for cell in cells]
    nameless = [cell for cell in cells if not _is_name(cell.get("id"))]
    for cell in nameless:
        cell["id"] = ""
    for name, count in Counter(cell["id"] for cell in cells).items():
        if count > 1 and name:
            twins = [cell for cell in cells if cell["id"] == name]
            unchanged = [t for t in twins if name in old and content(t) == content(old[name])]
            for twin in twins:
                if twin is not (unchanged or twins)[0]:
                    twin["id"] = ""
    known = {*old, *latest}
    lost = {name: old[name] for name in old if name not in {cell["id"] for cell in cells}}
    for cell in cells:
        if cell["id"] not in known and cell["source"].strip():
            same = (name for name in lost if content(lost[name]) == content(cell))
            if (name := next(same, "")) and not _is_note(cell):
                cell["id"] = name
                del lost[name]
    for cell in nameless:
        if not cell["id"] and (name := _similar(cell, lost)):
            cell["id"] = name
            del lost[name]
    for cell in cells:
        cell["id"] = cell["id"] or uuid.uuid4().hex[:8]
    return cells


def _is_name(name: object) -> bool:
    """Whether the notebook format allows this as an id."""
    return isinstance(name, str) and bool(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name))


def _similar(cell: Cell, lost: dict[str, Cell]) -> str:
    """The name of the original that a cell without an id resembles most; empty if none."""
    fits = {name: c["source"] for name, c in lost.items() if c["cell_type"] == cell["cell_type"]}
    closest = difflib.get_close_matches(cell["source"], fits.values(), n=1, cutoff=SIMILAR)
    return next((name for name, source in fits.items() if [source] == closest), "")


# --- one cell -------------------------------------------------------------------------------------


def _is_conflict(cell: Cell, old: dict[str, Cell], latest: dict[str, Cell]) -> bool:
    """Whether both the learner and the series have changed a cell, to different texts."""
    before, now = old.get(cell["id"]), latest.get(cell["id"])
    if now is None or content(cell) == content(now):
        return False
    return before is None or content(before) not in (content(cell), content(now))


def _merged_cell(before: Cell | None, mine: Cell, now: Cell) -> tuple[Cell, str]:
    """A cell of the series after the merge, and what happened to it."""
    same = content(mine) == content(now)
    if not same and (before is None or content(mine) != content(before)):
        is_conflict = before is None or content(before) != content(now)
        return mine, "conflict" if is_conflict else "kept"
    before = before or mine
    merged = {**deepcopy(mine if same else now), "id": now["id"]}
    merged["metadata"] = _merged_keys(
        before.get("metadata", {}), mine.get("metadata", {}), now.get("metadata", {})
    )
    if not same:
        return merged, "updated"
    if now["cell_type"] == "code" and _results(mine) == _results(before) != _results(now):
        merged.update(deepcopy(_results(now)))
        return merged, "outputs"
    return merged, ""


def _results(cell: Cell) -> dict[str, Any]:
    return {"outputs": cell.get("outputs", []), "execution_count": cell.get("execution_count")}


def _merged_keys(base: dict[str, Any], mine: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Three-way merge of metadata, key by key; where both changed one, the learner's stays.

    >>> _merged_keys({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 3, "b": 3})
    {'a': 3, 'b': 2}
    """
    merged = {}
    for key in [*mine, *(key for key in new if key not in mine)]:
        chosen = new if mine.get(key) == base.get(key) else mine
        if key in chosen:
            merged[key] = deepcopy(chosen[key])
    return merged


# --- the cell that shows a new version ------------------------------------------------------------


def _note(now: Cell, taken: set[str]) -> Cell:
    """Text, not code: running every cell must not undo what the learner wrote."""
    source = now["source"]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", source)), default=0))
    text = NOTE.format(
        fence=fence, source=source, language="python" if now["cell_type"] == "code" else "markdown"
    )
    stem = f"{now['id'][: LONGEST_ID - 8]}-new"
    names = (f"{stem}-{number}" if number > 1 else stem for number in range(1, len(taken) + 3))
    return {
        "cell_type": "markdown",
        "id": next(name for name in names if name not in taken),
        "metadata": {NOTE_KEY: {"of": now["id"], "hash": digest(text)}},
        "source": text,
    }


def _is_note(cell: Cell) -> bool:
    """Whether a cell shows a new version, and the learner has not edited it."""
    mark = cell.get("metadata", {}).get(NOTE_KEY)
    text = cell["source"].replace("\r\n", "\n")
    return isinstance(mark, dict) and mark.get("hash") == digest(text)


def _is_done(note: Cell, cells: list[Cell], conflicts: set[str], latest: dict[str, Cell]) -> bool:
    """Whether a newer note takes its place, or the learner's cell now is the series'."""
    name = note["metadata"][NOTE_KEY].get("of")
    mine = next((cell for cell in cells if cell["id"] == name), None)
    is_solved = mine is not None and name in latest and content(mine) == content(latest[name])
    return name in conflicts or is_solved


# --- order ----------------------------------------------------------------------------------------


def _moved(old: Iterable[str], order: Iterable[str]) -> set[str]:
    """Which of the names in both orders have moved.

    >>> _moved("abcde", "bcade")
    {'a'}
    """
    one, other = list(old), list(order)
    one, other = [n for n in one if n in set(other)], [n for n in other if n in set(one)]
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return set(one) - {name for start, _, size in blocks for name in one[start : start + size]}


def _ordered(
    old: Iterable[str],
    mine: Iterable[str],
    new: Iterable[str],
    events: dict[str, list[str]],
) -> list[str]:
    """Names of the merged notebook's blocks: the learner's order, with what the series moved.

    A cell that is new, or that only the series has moved, goes behind its predecessor in the
    series.
    """
    old, mine, new = list(old), list(mine), list(new)
    moved_by_learner = _moved(old, mine)
    moved = [name for name in _moved(old, new) - moved_by_learner if name in mine]
    order = [name for name in mine if name not in moved]
    for position, name in enumerate(new):
        arrives = name not in old and name not in mine
        if arrives or name in moved:
            earlier = [n for n in reversed(new[:position]) if n in order]
            steady = [n for n in earlier if n not in moved_by_learner]
            after = next(iter(steady or earlier), None)
            order.insert(0 if after is None else order.index(after) + 1, name)
            events["new" if arrives else "moved"].append(name)
    return order
