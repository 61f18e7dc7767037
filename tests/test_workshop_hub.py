"""The hub for a room: who gets in, who sees what, kernels that share memory, nothing left over."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from playwright import sync_api as playwright

from helpers.execute import NOTEBOOKS
from tests.support.browser import SHOTS
from tests.support.processes import family, run_python, started_python, survivors, wait_until
from workshop import confine, hub, load

WITHOUT = "" if hub.is_installed() else "no .venv-hub: python run.py workshop hub --install-only"
needs_hub = pytest.mark.skipif(bool(WITHOUT), reason=WITHOUT or "installed")
NOT_APART = confine.why_not()
needs_walls = pytest.mark.skipif(bool(NOT_APART), reason=NOT_APART or "separated")


# --- names, passwords, refusals -------------------------------------------------------------------


def test_learners_are_numbered_or_named_by_a_file(tmp_path):
    assert hub.learners(3, None) == ["learner01", "learner02", "learner03"]
    names = tmp_path / "names.txt"
    names.write_text("\ufeffAda\n\n grace-h \n", encoding="utf-8")
    assert hub.learners(30, names) == ["ada", "grace-h"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ada\n../bob\n", "'../bob'.*cannot be a name"),
        ("teacher\n", "'teacher'.*cannot be a name"),
        ("ada\nbob\nAda\n", "ada in .*more than once"),
        ("\n\n", "no names: write one a line"),
        ("a" * 40, "cannot be a name"),
    ],
)
def test_a_list_of_names_that_cannot_be_used_says_why(tmp_path, text, said):
    names = tmp_path / "names.txt"
    names.write_text(text, encoding="utf-8")
    with pytest.raises(hub.CannotStart, match=said):
        hub.learners(30, names)


def test_passwords_are_long_enough_differ_and_can_be_read_from_a_board():
    for length in (8, 32):
        words = {hub.password(length) for _ in range(50)}
        assert len(words) == 50
        assert all(len(word.replace("-", "")) == length for word in words)
        assert not set("il1o0") & set("".join(words))


def test_a_taken_port_names_another_that_can_be_typed():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(hub.CannotStart, match=r"hub --port \d+"):
            hub.refuse_taken("127.0.0.1", port)
    hub.refuse_taken("127.0.0.1", port)  # free now


@pytest.mark.skipif(os.name == "nt", reason="the hub refuses Windows before it looks")
def test_without_node_the_hub_says_how_to_get_it(tmp_path):
    shutil.copyfile(__file__, tmp_path / "elsewhere")  # a PATH that has no programs
    code = "from workshop import hub; hub.VENV = hub.Path('none'); hub.install()"
    done = run_python("-c", code, PATH=str(tmp_path))
    assert done.returncode != 0
    assert "node is missing" in done.stderr and "sudo apt install nodejs npm" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("npm"), reason="no npm on this machine")
def test_without_a_network_the_first_start_says_what_it_needs(tmp_path):
    code = """if True:
        import sys
        from pathlib import Path
        from workshop import hub
        hub.VENV = Path(sys.argv[1])
        hub.PYTHON = hub.VENV / "bin" / "python"
        try:
            hub.install()
        except hub.CannotStart as error:
            sys.exit(str(error))
    """
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": None}
    done = run_python("-c", code, tmp_path / "venv", **nowhere)
    assert done.returncode == 1
    assert "The first start needs a network" in done.stderr
    assert not (tmp_path / "venv" / "installed.sha256").exists()  # the next start tries again


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="not root")
def test_root_is_told_how_to_run_the_hub_and_what_for():
    done = run_python("-m", "workshop", "hub")
    assert done.returncode == 2
    assert "python run.py workshop hub --allow-root" in done.stderr


def test_an_exposed_hub_says_what_that_means(tmp_path, capsys):
    access = {"url": "http://127.0.0.1:8000", "password": "p", "admin_password": "q"}
    hub.announce(tmp_path, ["ada"], 0, access, "127.0.0.1")
    assert "Only this machine reaches it" in capsys.readouterr().out
    hub.announce(tmp_path, ["ada"], 1, access, "0.0.0.0")  # noqa: S104  # compared, not bound
    said = capsys.readouterr().out
    assert "EXPOSED" in said and "plain HTTP" in said and "no longer work" in said


def test_learners_folders_are_made_once_and_closed_to_other_users(tmp_path):
    home = tmp_path / "learners"
    assert hub.prepare(home, ["ada"]) == 0
    work = home / "ada" / "notebooks" / "02_input_embeddings.ipynb"
    notebook = nbformat.read(work, as_version=4)
    notebook.cells[1].source = "# changed"
    nbformat.write(notebook, work)
    assert hub.prepare(home, ["ada", "bob"]) == 1
    assert nbformat.read(work, as_version=4).cells[1].source == "# changed"
    if os.name != "nt":
        assert {path.stat().st_mode & 0o077 for path in home.iterdir()} == {0}


# --- walls ----------------------------------------------------------------------------------------


@needs_walls
def test_a_confined_process_sees_its_own_folder_alone(tmp_path):
    room, kept = tmp_path / "room", tmp_path / "kept"
    for path in (room / "ada", room / "bob", kept / "cache"):
        path.mkdir(parents=True)
        (path / "note").write_text(path.name, encoding="utf-8")
    code = """if True:
        import os, subprocess, sys
        from pathlib import Path
        room, kept = map(Path, sys.argv[1:])
        print(os.listdir(room), (room / "ada/note").read_text(), os.geteuid() != 0)
        (room / "ada/new").touch()
        (kept / "cache/new").touch()
        try:
            (kept / "new").touch()
        except OSError as error:
            print(error.strerror)
        undo = ["unshare", "-Urm", "umount", "-l", str(room)]
        print(subprocess.run(undo, capture_output=True).returncode != 0)
        print(os.access(f"/proc/{os.getppid()}/environ", os.R_OK) and
              bool(open(f"/proc/{os.getppid()}/environ").read()))
    """
    options = [f"--hide={room}", f"--keep={kept}", f"--own={kept / 'cache'}", "--"]
    command = [sys.executable, confine.__file__, str(room / "ada"), *options]
    done = subprocess.run(
        [*command, sys.executable, "-c", code, str(room), str(kept)],
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["['ada'] ada True", "Read-only file system", "True"], done
    assert "PermissionError" in done.stderr  # what the hub's process knows
    assert (room / "ada" / "new").exists() and not (kept / "cache" / "new").exists()


# --- a real hub -----------------------------------------------------------------------------------


class Room:
    """A hub that was started by the command, and what it printed."""

    def __init__(self, process, said):
        self.process, self.said = process, said
        self.url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
        self.password = re.search(r"Their password: +(\S+)", said)[1]
        self.admin_password = re.search(r"teacher, password (\S+)", said)[1]

    def browser(self, name):
        return load.Browser(self.url, name, time.monotonic() + 120)

    def learner(self, name):
        browser = self.browser(name)
        browser.log_in(self.password)
        browser.start_server()
        return browser


def start(home, log):
    """The command, and what it prints once the hub is up."""
    (port,) = hub.free_ports(1)
    options = ["--learners=2", f"--port={port}", f"--home={home}", "--allow-root"]
    with log.open("wb") as file, started_python("-m", "workshop", "hub", *options, log=file) as one:

        def said():
            text = log.read_text(encoding="utf-8")
            return text if "Stop: Ctrl+C" in text else ""

        try:
            yield Room(one, wait_until(said, alive=one))
        finally:
            one.send_signal(signal.SIGTERM)
            one.wait(40)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    yield from start(folder / "learners", folder / "said")


@pytest.fixture(scope="module")
def ada(room):
    """The first learner's browser, with a server."""
    return room.learner("learner01")


@pytest.fixture
def cells(ada):
    """A kernel of the first learner: code in, text and errors out."""
    kernel = ada.start_kernel("notebooks/02_input_embeddings.ipynb")
    yield Cells(ada, kernel)
    ada.call(f"kernels/{kernel}/restart", {})


class Cells:
    def __init__(self, browser, kernel):
        self.browser, self.kernel = browser, kernel
        self.channels = browser.connect(kernel)
        self.channels.answers(self.channels.send("kernel_info_request", {}))

    def run(self, code):
        """What a cell prints, or the name of its error."""
        return printed(self.channels.run(code))


def printed(messages):
    kinds = [m["content"]["ename"] for m in messages if m["msg_type"] == "error"]
    texts = [
        m["content"]["text"]
        for m in messages
        if m["msg_type"] == "stream" and m["content"]["name"] == "stdout"
    ]
    return kinds[0] if kinds else "".join(texts)


@pytest.mark.slow
@needs_hub
def test_only_listed_learners_with_the_password_get_in(room):
    for name, word in (
        ("learner01", "wrong-word"),
        ("mallory", room.password),
        ("teacher", room.password),
        ("learner01", room.admin_password),
    ):
        with pytest.raises(PermissionError, match="refused"):
            room.browser(name).log_in(word)
    teacher = room.browser("teacher")
    teacher.log_in(room.admin_password)
    _, page = teacher.open(f"{room.url}/hub/admin")
    assert b"admin" in page


@pytest.mark.slow
@needs_hub
def test_the_passwords_are_in_no_file_and_no_argument(room, ada):
    words = [room.password, room.admin_password]
    home = hub.Path(re.search(r"Log: (\S+)/\.hub/", room.said)[1])
    kept = [p for p in home.rglob("*") if p.is_file() and p.suffix != ".ipynb"]
    assert any(path.name == "hub.sqlite" for path in kept)
    for path in kept:
        assert not any(word.encode() in path.read_bytes() for word in words), path
    for process in family(room.process.pid):
        if process.is_running():
            seen = " ".join([*process.cmdline(), *process.environ().values()])
            assert not any(word in seen for word in words), process


@pytest.mark.slow
@needs_hub
@needs_walls
def test_a_learner_cannot_read_what_another_has(room, cells):
    bob = room.learner("learner02")
    home = hub.Path(re.search(r"Log: (\S+)/\.hub/", room.said)[1])
    (home / "learner02" / "secret").write_text("of bob", encoding="utf-8")
    look = "import os; print(sorted(os.listdir({!r})))"
    assert cells.run(look.format(str(home))) == "['learner01']\n"
    assert cells.run(f"open({str(home / 'learner02' / 'secret')!r})") == "FileNotFoundError"
    assert cells.run(f"open({str(home / '.hub' / 'hub.sqlite')!r})") == "FileNotFoundError"
    assert cells.run(f"open({str(hub.PROJECT_ROOT / 'README.md')!r}, 'a')") == "OSError"
    servers = [p.pid for p in family(room.process.pid) if "singleuser" in " ".join(p.cmdline())]
    assert len(servers) >= 2
    tried = f"""if True:
        opened = 0
        for pid in {servers}:
            try:
                open(f"/proc/{{pid}}/environ").read()
                opened += 1
            except PermissionError:
                pass
        print(opened)"""
    assert int(cells.run(tried)) <= 1  # its own
    theirs = Cells(bob, bob.start_kernel("notebooks/02_input_embeddings.ipynb"))
    assert theirs.run("print(open('../secret').read())") == "of bob\n"


@pytest.mark.slow
@needs_hub
@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_a_forked_kernel_prints_what_the_notebook_has_stored(cells):
    assert cells.run("import sys; print('torch' in sys.modules)") == "True\n"
    stored = json.loads((NOTEBOOKS / "02_input_embeddings.ipynb").read_text(encoding="utf-8"))
    compared = 0
    for cell in stored["cells"]:
        if cell["cell_type"] == "code" and cell["id"] in ENOUGH:
            found = cells.run("".join(cell["source"]))
            if "nbval-check-output" in cell["metadata"].get("tags", []):
                assert found == "".join("".join(o.get("text", "")) for o in cell["outputs"])
                compared += 1
    assert compared == 4


#: Cells of notebook 2 that need no others.
ENOUGH = ("start", "load-model", "tokenize", "ids", "decode", "vocabulary-size", "modules-inside")
ENOUGH += ("table",)


@pytest.mark.slow
@needs_hub
def test_a_kernel_can_be_interrupted_and_restarted(ada, cells):
    sent = cells.channels.send(
        "execute_request",
        {"code": "print('on', flush=True)\nimport time\nwhile True: time.sleep(0.1)"},
    )
    time.sleep(1)
    ada.call(f"kernels/{cells.kernel}/interrupt", {})
    assert printed(cells.channels.answers(sent)) == "KeyboardInterrupt"
    assert cells.run("x = 1; print(x)") == "1\n"
    before = cells.run("import os; print(os.getpid())")
    ada.call(f"kernels/{cells.kernel}/restart", {})
    again = Cells(ada, cells.kernel)
    assert again.run("x") == "NameError"
    assert again.run("import os; print(os.getpid())") != before
    assert not psutil.pid_exists(int(before))


@pytest.mark.slow
@needs_hub
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of forked kernels")
def test_a_cell_that_wants_too_much_memory_fails_alone(cells):
    assert cells.run("len(bytearray(4 * 2**30))") == "MemoryError"
    assert cells.run("print('still here')") == "still here\n"


@pytest.mark.slow
@pytest.mark.browser
@needs_hub
def test_a_learner_logs_in_with_a_browser_and_runs_a_cell(room, browser):
    home = hub.Path(re.search(r"Log: (\S+)/\.hub/", room.said)[1])
    path = home / "learner02" / "notebooks" / "02_input_embeddings.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)  # what is seen later was computed here
    nbformat.write(notebook, path)
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(60_000)
    page.goto(room.url)
    page.fill("#username_input", "learner02")
    page.fill("#password_input", room.password)
    page.click("#login_submit")
    page.wait_for_url("**/user/learner02/lab/tree/notebooks**")
    page.goto(f"{room.url}/user/learner02/lab/tree/notebooks/{path.name}")
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    page.keyboard.press("Shift+Enter")
    shown = page.locator(".jp-CodeCell .jp-OutputArea-output").first
    playwright.expect(shown).to_contain_text("device", timeout=60_000)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "hub.png")


@pytest.mark.slow
@needs_hub
def test_ctrl_c_ends_all_and_the_next_start_takes_up_the_folders(tmp_path):
    home = tmp_path / "learners"
    for times in range(2):
        for one in start(home, tmp_path / "said"):
            assert (f"Folders used again: {3 * times}" in one.said) == bool(times)
            if times == 0:
                learner = one.learner("learner01")
                first = one.password
                warm = [
                    p for p in family(one.process.pid) if "workshop.warm_kernels" in p.cmdline()
                ]
                for process in warm:
                    process.kill()  # kernels then start the ordinary way
                kernel = Cells(learner, learner.start_kernel("notebooks/x.ipynb"))
                assert kernel.run("import sys; print('torch' in sys.modules)") == "False\n"
                (home / "learner01" / "work").touch()
            all_of_it = family(one.process.pid)
            assert len(all_of_it) > 3
            one.process.send_signal(signal.SIGINT)
            assert one.process.wait(40) == 0
            assert survivors(all_of_it, seconds=1) == []
    assert (home / "learner01" / "work").exists()
    assert one.password != first
