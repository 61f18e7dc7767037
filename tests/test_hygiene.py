"""The gates: what is stored is checked, and each check has been seen to fail on something bad."""

import ast
import re
import socket
import subprocess
import tokenize
from urllib.parse import unquote

import nbformat
import pytest
import yaml

import run
from helpers import PROJECT_ROOT, console
from tests.support import contrast, notebooks
from tests.support.processes import python, run_python, started_python

pytestmark = pytest.mark.gate

# --- tools that others wrote ----------------------------------------------------------------------

SECRETS = ["detect_secrets.pre_commit_hook", "--exclude-lines", "^def test_"]
for guess in ("HexHighEntropyString", "Base64HighEntropyString", "KeywordDetector"):
    SECRETS += ["--disable-plugin", guess]  # hashes, pictures and planted keys are no secrets
DEPTRY = ["deptry", "--no-ansi", "--config", "pyproject.toml"]
TESTS_TOO = ["--exclude", "nothing", "--ignore", "DEP002,DEP004"]  # tests may use what tests need
for ours in ("helpers", "benchmarks", "run", "tests", "website", "workshop"):
    TESTS_TOO += ["--known-first-party", ours]

ON_FILES = {
    "style": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "spelling": ["codespell_lib"],
    "secrets": SECRETS,
}
ON_THE_PROJECT = {
    "dependencies": [*DEPTRY, "."],
    "dependencies of the tests": [*DEPTRY, *TESTS_TOO, "tests"],
}
TYPES = ["mypy", "--no-error-summary"]
PYTHON = {"style", "format"}
BAD = {  # put together here, so that this file itself passes
    "style": ("bad.py", "import os\n"),
    "format": ("bad.py", "x = {  }\n"),
    "spelling": ("bad.md", "We reci" + "eve a vector.\n"),
    "secrets": ("bad.md", "OPENAI_API_KEY=sk-" + "a1B2" * 5 + "T3Blbk" + "FJ" + "c3D4" * 5 + "\n"),
}


def check(tool, *arguments):
    """The finished process of a tool; status 2 or more says that the tool itself could not run."""
    return run_python("-m", *tool, *arguments, timeout=600)


def as_notebook(path, source, kind):
    new_cell = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}[kind]
    nbformat.write(nbformat.v4.new_notebook(cells=[new_cell(source)]), path)
    return path


@pytest.fixture(scope="module")
def files():
    """Every file of the project that is text, as git sees it."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("only a git clone knows which files belong to the project")
    paths = [PROJECT_ROOT / name for name in done.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:1000]]


@pytest.fixture(scope="module")
def types():
    """The type checker in the background: without its cache it takes as long as all other gates."""
    with started_python("-m", *TYPES) as process:
        yield process


@pytest.mark.parametrize("tool", ON_FILES)
def test_the_files_pass(tool, files, types):
    chosen = [path for path in files if tool not in PYTHON or path.suffix in (".py", ".ipynb")]
    done = check(ON_FILES[tool], *chosen)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("tool", ON_FILES)
@pytest.mark.parametrize("stored", ["in a file", "in a notebook"])
def test_something_bad_does_not_pass(tool, stored, tmp_path):
    name, text = BAD[tool]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    if stored == "in a notebook":
        path = as_notebook(tmp_path / "bad.ipynb", text, "code" if tool in PYTHON else "markdown")
    done = check(ON_FILES[tool], path)
    assert done.returncode not in (0, 2), done.stdout + done.stderr


@pytest.mark.parametrize(("kind", "allowed"), [("code", 88), ("file", 100)])
def test_a_line_that_is_too_long_does_not_pass(kind, allowed, tmp_path):
    for config in ("pyproject.toml", "notebooks/ruff.toml"):
        path = tmp_path / config
        path.parent.mkdir(exist_ok=True)
        path.write_text((PROJECT_ROOT / config).read_text(encoding="utf-8"), encoding="utf-8")
    for length in (allowed, allowed + 1):
        line = "#" + " x" * ((length - 1) // 2) + "x" * ((length - 1) % 2)
        path = tmp_path / "long.py"
        path.write_text(line + "\n", encoding="utf-8")
        if kind == "code":
            path = as_notebook(tmp_path / "notebooks" / "long.ipynb", line, kind)
        done = check(ON_FILES["style"], path)
        assert ("E501" in done.stdout) == (length > allowed), done.stdout + done.stderr


@pytest.mark.parametrize("tool", ON_THE_PROJECT)
def test_what_is_imported_is_declared(tool):
    done = check(ON_THE_PROJECT[tool])
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_import_that_is_not_declared_does_not_pass(tmp_path):
    source = "import httpx\nimport hypothesis\nimport no_such_library\nimport torch\n"
    (tmp_path / "bad.py").write_text(source, encoding="utf-8")
    done = check(DEPTRY, tmp_path)
    assert "DEP001 'no_such_library'" in done.stderr, "declared nowhere and not installed"
    assert "DEP003 'httpx'" in done.stderr, "installed only because another library needs it"
    assert "DEP004 'hypothesis'" in done.stderr, "only tests install it"
    assert "'torch'" not in done.stderr
    done = check([*DEPTRY, *TESTS_TOO], tmp_path)
    assert "DEP003 'httpx'" in done.stderr and "'hypothesis'" not in done.stderr


# --- what is stored in a notebook -----------------------------------------------------------------


def output(kind, *arguments, **options):
    return [nbformat.v4.new_output(kind, *arguments, **options)]


def bad_order(notebook):
    notebook.cells[0].execution_count = 7


def bad_picture(notebook):
    described = {"image/png": {"alt": "a chart"}}
    notebook.cells[0].outputs = output("display_data", {"image/png": "iVBOR"}, metadata=described)


def bad_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-kernel"


def bad_metadata(notebook):
    notebook.metadata["widgets"] = {}


def bad_widget(notebook):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    notebook.cells[0].outputs = output("display_data", data)


def bad_script(notebook):
    page = {"text/html": "<script src='https://example.com/x.js'></script>"}
    notebook.cells[0].outputs = output("display_data", page)


def bad_cell(notebook):
    notebook.cells[0].outputs = output("error", ename="E", evalue="", traceback=[])


@pytest.mark.parametrize(
    ("judge", "spoil"),
    [
        (notebooks.not_from_one_run, bad_order),
        (notebooks.pictures_without_words, bad_picture),
        (notebooks.stored_state, bad_kernel),
        (notebooks.stored_state, bad_metadata),
        (notebooks.stored_state, bad_widget),
        (notebooks.pages_that_ask_a_server, bad_script),
        (notebooks.stored_errors, bad_cell),
    ],
)
def test_a_bad_notebook_does_not_pass(judge, spoil):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", execution_count=1)])
    notebook.metadata = nbformat.from_dict({"kernelspec": {"name": "python3"}, "language_info": {}})
    assert not judge(notebook)
    spoil(notebook)
    assert judge(notebook)


def test_a_notebook_over_a_megabyte_does_not_pass(tmp_path):
    path = tmp_path / "large.ipynb"
    path.write_bytes(b" " * notebooks.MEGABYTE)
    assert not notebooks.too_large(path)
    path.write_bytes(b" " * (notebooks.MEGABYTE + 1))
    assert notebooks.too_large(path)


def test_a_pale_theme_does_not_pass(tmp_path, monkeypatch):
    light = (console.THEMES / "light.theme").read_text(encoding="utf-8")
    monkeypatch.setattr(console, "THEMES", tmp_path)
    for name, text in {"same": light, "pale": light.replace("#14471e", "#9fd4a9")}.items():
        renamed = text.replace("name = light", f"name = {name}")
        (tmp_path / f"{name}.theme").write_text(renamed, encoding="utf-8")
    assert not contrast.faults(console.load_theme("same"))
    assert any("score" in fault for fault in contrast.faults(console.load_theme("pale")))


# --- words ----------------------------------------------------------------------------------------

THING = r"(token|text|word|row|cell|passage|query|question|language)\b"
TERMS = [  # (what nobody in this field says, what they say, an example)
    (r"control tokens?", "special token", "[CLS] is a control token"),
    (r"turn(s|ed|ing)? down", "down-weight", "tokens that the context turns down"),
    (r"unused (place|token place)s?", "reserved slot", "a vocabulary with unused places"),
    (r"half an? (character|emoji)", "lone surrogate", "half a character is shown as ?"),
    (r"two `interest`", "the two occurrences of `interest`", "the two `interest` part"),
    (r"counts? the (less|more)", "is down-weighted, weighs more", "it counts the less"),
    (r"\*\*Necessary\*\*|Necessary / Helpful", "**Prerequisites**", "**Necessary**: Python"),
    (r"\bmend(s|ed|ing)?\b", "fix, repair", "Mend it: python run.py repair"),
    (r"fields? of (a|the) heatmap", "cell", "each field of the heatmap"),
    (rf"\bone \w+ an? {THING}", "one row per token", "one row a token"),
    (rf"\btime an? {THING}", "time per passage", "milliseconds, time a passage"),
    (r"\bshall\b", "should, will", "threads that wait shall soon sleep"),
    (r"nothing is kept", "nothing is cached, only ... are cached", "of more texts nothing is kept"),
    (r"\b(query|question) alone\b", "a single query", "a query alone is faster"),
    (r"\bfor want of\b", "because there was no ..., out of ...", "ended for want of memory"),
    (r"\banew\b", "again", "the map is computed anew"),
    (r"`##`[^.]{0,30}\bsuffix|\bsuffix\b[^.]{0,30}`##`", "continuation", "`##` marks a suffix"),
]
SPEAKS = {".md", ".ipynb", ".py"}


def words(path):
    """What a reader reads: Markdown, the cells of a notebook, comments and strings of code."""
    if path.suffix == ".ipynb":
        spoken = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    elif path.suffix == ".py":
        kinds = {"COMMENT", "STRING", "FSTRING_MIDDLE"}
        with tokenize.open(path) as file:
            tokens = list(tokenize.generate_tokens(file.readline))
        found = [token.string for token in tokens if tokenize.tok_name[token.type] in kinds]
        spoken = [text.lstrip("#rbfRBF").strip("\"'") for text in found]
    else:
        spoken = [path.read_text(encoding="utf-8")]
    return " ".join(" ".join(spoken).split())


def odd_terms(path):
    """Terms of `TERMS` that stand in a file, each with the one to write instead."""
    text = words(path)
    return [
        f"{match.group()!r} (write: {better})"
        for pattern, better, _ in TERMS
        for match in re.finditer(pattern, text, re.I)
    ]


def test_the_terms_are_those_of_the_field(files):
    speaking = [path for path in files if path.suffix in SPEAKS]
    found = [
        f"{path.relative_to(PROJECT_ROOT)}: {term}"
        for path in speaking
        if PROJECT_ROOT / "tests" not in path.parents or path.suffix == ".md"
        for term in odd_terms(path)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("example", [example for _, _, example in TERMS])
@pytest.mark.parametrize("stored", ["in a file", "in a notebook", "in a docstring", "in a comment"])
def test_an_odd_term_does_not_pass(example, stored, tmp_path):
    first, _, rest = example.partition(" ")
    broken = f"{first}\n{rest}" if rest else first  # a line may end within a term
    path = tmp_path / ("bad.md" if stored == "in a file" else "bad.py")
    if stored == "in a notebook":
        path = as_notebook(tmp_path / "bad.ipynb", broken, "markdown")
    elif stored == "in a docstring":
        path.write_text(f'def f():\n    """{broken}"""\n', encoding="utf-8")
    elif stored == "in a comment":
        path.write_text("# " + broken.replace("\n", "\n# ") + "\n", encoding="utf-8")
    else:
        path.write_text(broken, encoding="utf-8")
    assert odd_terms(path)


def test_names_in_code_are_not_taken_for_terms(tmp_path):
    path = tmp_path / "good.py"
    path.write_text("mend = unused_places = 1  # a special token\n", encoding="utf-8")
    assert not odd_terms(path)


# --- links ----------------------------------------------------------------------------------------


def prose(path):
    """The Markdown of a file or notebook, without its code blocks."""
    if path.suffix == ".ipynb":
        text = "\n".join(
            cell.source
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "markdown"
        )
    else:
        text = path.read_text(encoding="utf-8")
    return re.sub(r"```.*?```", "", text, flags=re.S)


def anchors(path):
    """The anchors that GitHub gives the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def link_faults(path):
    """Links inside the project that lead nowhere, and pictures without words."""
    text = prose(path)
    found = [
        f"{name}: a picture without words" for name in re.findall(r"!\[\s*\]\(([^)]*)\)", text)
    ]
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue  # the weekly run follows what leads outside
        name, _, anchor = unquote(target).partition("#")
        there = path.parent / name if name else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            found.append(f"{target}: leads nowhere")
    return found


def test_every_link_leads_somewhere_and_every_picture_has_words(files):
    catalogues = PROJECT_ROOT / "notebooks" / "zh"  # its .md files hold the text of its notebooks
    assert not {
        path.name: found
        for path in files
        if (path.suffix == ".ipynb" or (path.suffix == ".md" and path.parent != catalogues))
        and (found := link_faults(path))
    }


@pytest.mark.parametrize(
    "text", ["[a](gone.md)", "[a](#gone)", "[a](here.md#gone)", "![](here.md)"]
)
@pytest.mark.parametrize("stored", ["in a file", "in a notebook"])
def test_a_link_that_leads_nowhere_does_not_pass(text, stored, tmp_path):
    here = tmp_path / "here.md"
    good = "[a](#here--now)\n[b](here.md#here--now) ![words](here.md)"
    here.write_text(f"# Here & now\n{good} [out](https://example.com/gone)", encoding="utf-8")
    assert not link_faults(here)
    path = tmp_path / "bad.md"
    path.write_text(text, encoding="utf-8")
    assert link_faults(
        path if stored == "in a file" else as_notebook(tmp_path / "bad.ipynb", text, "markdown")
    )


# --- the network ----------------------------------------------------------------------------------

REACH = """
import socket, sys
for family, host in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        socket.socket(family, socket.SOCK_DGRAM).connect((host, 9))
    except OSError as error:
        print(error)
try:
    socket.create_connection(("example.com", 80), timeout=5)
except OSError as error:
    print(error)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
    socket.create_connection(("localhost", server.getsockname()[1])).close()
print("this machine answers")
"""


def test_tests_and_kernels_reach_this_machine_and_no_network():
    done = python(REACH)
    assert done.stdout.count("the network is cut while tests run") == 3 and done.stdout.endswith(
        "this machine answers\n"
    ), done.stderr
    with pytest.raises(OSError, match="the network is cut"):
        socket.create_connection(("192.0.2.1", 80))


# --- workflows ------------------------------------------------------------------------------------

WORKFLOWS = sorted((PROJECT_ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_pins_actions_reads_only_and_calls_commands_that_exist(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.search(r"@v\d", step["uses"]) for step in steps if "uses" in step)
    commands = re.findall(r"\brun\.py (\w+)", "\n".join(step.get("run", "") for step in steps))
    assert set(commands) <= set(run.COMMANDS)
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())


def test_the_workflow_covers_every_system_and_every_python():
    jobs = yaml.safe_load(
        (PROJECT_ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    )["jobs"]
    matrix = jobs["locked"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == [f"3.{minor}" for minor in range(run.OLDEST[1], run.NEWEST[1] + 1)]


# --- the tests themselves -------------------------------------------------------------------------

LONGEST_NAME = 80


def faults_of_tests(source, others):
    """What a file of tests must not do: import one of `others`, or have names that nobody reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or "", *(alias.name for alias in node.names)]
        else:
            imported = []
        parts = {part for name in imported for part in name.split(".")}
        found += [f"imports {name}" for name in sorted(parts & others)]
        is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if is_test and len(node.name) > LONGEST_NAME:
            found.append(f"{node.name} has {len(node.name)} characters")
    return found


def test_no_file_of_tests_imports_another_and_names_can_be_read():
    paths = sorted((PROJECT_ROOT / "tests").rglob("*.py"))
    others = {path.stem for path in paths if path.stem.startswith("test_")}
    found = [
        f"{path.name} {fault}"
        for path in paths
        for fault in faults_of_tests(path.read_text(encoding="utf-8"), others)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import test_other",
        "def f():\n    from test_other import helper",
        "from system import test_other",
        "from system.test_other import helper",
        f"def test_{'x' * 76}():\n    pass",
    ],
)
def test_a_bad_file_of_tests_does_not_pass(source):
    assert not faults_of_tests(
        f"import support, json\ndef test_{'x' * 75}():\n    pass", {"test_other"}
    )
    assert faults_of_tests(source, {"test_other"})


def unknown_tests(page, sources):
    """Tests that a page names between backticks and that no source defines."""
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return sorted(set(re.findall(r"`(test_\w+)`", page)) - defined)


def test_every_test_that_the_table_of_faults_names_exists():
    folder = PROJECT_ROOT / "tests"
    sources = [path.read_text(encoding="utf-8") for path in folder.rglob("test_*.py")]
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page.count("`test_") > 50 and not unknown_tests(page, sources)


def test_a_table_that_names_a_test_that_is_gone_does_not_pass():
    source = "def test_one(): ...\n\nclass TestTwo:\n    def test_two(self): ..."
    assert not unknown_tests("`test_one`, `test_two`, `test_*.py`", [source])
    assert unknown_tests("`test_one`, `test_on`", [source]) == ["test_on"]
    assert unknown_tests("`test_three`", ["def f():\n    test_three()"]) == ["test_three"]


# --- types, which have been running since the first gate ------------------------------------------


def test_the_types_fit(types):
    printed = types.communicate()
    assert types.returncode == 0, "".join(printed)


def test_a_type_that_does_not_fit_does_not_pass(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text('def two() -> int:\n    return "2"\n', encoding="utf-8")
    done = check(TYPES, "--cache-dir", tmp_path / "cache", path)
    assert done.returncode == 1 and "[return-value]" in done.stdout, done.stdout + done.stderr
