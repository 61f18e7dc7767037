"""The floors of `helpers`: imports run to the same floor or a lower one, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from helpers import PROJECT_ROOT
from tests.support.processes import python

FLOORS = [
    {"language", "settings", "files", "device", "console", "tokens", "similarity", "figures"},
    {"artifacts", "tables", "charts", "token_map"},
    {"projection", "retrieval", "openai_api", "local_server", "cde"},
    {"exercises", "session", "doctor", "execute", "translations", "messages", "wording"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS, start=1) for room in rooms}


def imports(package):
    """Module -> modules of the package that it imports, at its top or inside a function."""
    files = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        files[".".join(part for part in parts if part != "__init__")] = path
    graph = {}
    for name, path in files.items():
        inside = name.split(".") if path.stem == "__init__" and name else name.split(".")[:-1]
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = inside[: len(inside) - node.level + 1] + (node.module or "").split(".")
                base = ".".join(part for part in base if part)
                for alias in node.names:
                    longer = f"{base}.{alias.name}".lstrip(".")
                    graph[name].add(longer if longer in files else base)
        graph[name] -= {name, ""}  # what the package itself defines needs no other module
    return graph


def faults(graph):
    """Imports from a floor above, modules without a floor, and circles."""
    found = []
    for name, used in graph.items():
        room = name.split(".")[0]
        if room and room not in FLOOR:
            found.append(f"{name} has no floor")
        for other in used:
            if room and FLOOR.get(other.split(".")[0], 0) > FLOOR.get(room, 0):
                found.append(f"{name} imports {other} from a floor above")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"a circle: {' <- '.join(error.args[1])}")
    return found


def test_imports_run_downward_and_in_no_circle():
    graph = imports(PROJECT_ROOT / "helpers")
    assert "cde.native" in graph["cde.hub"] and "artifacts" in graph["cde.hub"], "it sees imports"
    assert not faults(graph)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("tokens", "from .charts import heatmap", "tokens imports charts from a floor above"),
        ("cde.native", "from ..exercises import x", "cde.native imports exercises"),
        ("similarity", "def f():\n    from .tokens import kind", "a circle"),
        ("attic", "x = 1", "attic has no floor"),
    ],
)
def test_a_wrong_import_does_not_pass(tmp_path, name, line, message):
    for module, text in {"tokens": "from .similarity import x", "cde.native": "", name: ""}.items():
        path = tmp_path / (module.replace(".", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for module in ("charts", "exercises", "similarity"):
        (tmp_path / f"{module}.py").write_text("", encoding="utf-8")
    assert not [fault for fault in faults(imports(tmp_path)) if "attic" not in fault]
    path = tmp_path / (name.replace(".", "/") + ".py")
    path.write_text(path.read_text(encoding="utf-8") + "\n" + line + "\n", encoding="utf-8")
    assert [fault for fault in faults(imports(tmp_path)) if message in fault]


def test_importing_the_package_loads_nothing_heavy():
    done = python("""
        import sys, helpers
        print({"torch", "transformers", "pandas", "numpy"} & set(sys.modules))
    """)
    assert done.returncode == 0 and done.stdout.strip() == "set()", done.stdout + done.stderr
