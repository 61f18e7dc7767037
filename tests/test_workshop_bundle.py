"""The bundle: which wheels each system needs, and that only the wheels of its list are installed.

Small wheels that the tests write stand for the registry's; pip, run.py and the files are real.
"""

import base64
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import run
from helpers import PROJECT_ROOT
from tests.support.processes import python, run_python
from workshop import bundle
from workshop.bundle import Target

PINS = bundle.pinned(PROJECT_ROOT / "requirements.txt")
OWN = Target(run.this_platform(), "{}.{}".format(*sys.version_info))

needs_pip = pytest.mark.skipif(not find_spec("pip"), reason="this environment has no pip")


def versions(target, release=None):
    """Name to version, of what a target needs at one release of its Python (the newest)."""
    lists = bundle.applying(PINS, target)
    chosen = lists[release or list(lists)[-1]]
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in chosen}


# --- what a system needs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "systems"),
    [
        ("appnope", {"macos"}),
        ("colorama", {"windows"}),
        ("pywinpty", {"windows"}),
        ("pexpect", {"linux", "macos"}),
        ("ptyprocess", {"linux", "macos"}),
        ("hf-xet", {"linux", "macos", "windows"}),
        ("torch", {"linux", "macos", "windows"}),
    ],
)
@pytest.mark.parametrize("version", bundle.PYTHONS)
def test_a_package_is_in_the_bundle_of_the_systems_that_need_it(package, systems, version):
    needing = {p for p in bundle.PLATFORMS if package in versions(Target(p, version))}
    assert needing == {p for p in bundle.PLATFORMS if p.partition("-")[0] in systems}


@pytest.mark.parametrize("platform", bundle.PLATFORMS)
def test_each_python_gets_the_versions_pinned_for_it(platform):
    old, new = versions(Target(platform, "3.11")), versions(Target(platform, "3.12"))
    for package in ("numpy", "scipy", "contourpy", "networkx"):
        first, second = (str(p.specifier).removeprefix("==") for p in PINS if p.name == package)
        assert (old[package], new[package]) == (first, second) and first != second
    assert "overrides" in old and "overrides" not in new


def test_a_bundle_for_3_11_holds_what_any_release_of_3_11_needs():
    target = Target("windows-x86_64", "3.11")
    assert list(bundle.applying(PINS, target)) == ["3.11.0", "3.11.5"]
    before, after = versions(target, "3.11.0"), versions(target, "3.11.5")
    assert {name for name in before if before[name] != after[name]} == {"soupsieve"}


@pytest.mark.skipif(OWN.platform not in bundle.PLATFORMS, reason="no bundles for this system")
def test_for_this_machine_the_markers_say_what_they_say_on_it():
    here = default_environment()
    needed = {pin.name for pin in PINS if pin.marker is None or pin.marker.evaluate(here)}
    assert set(versions(OWN)) == needed
    release = here["python_full_version"]
    mine = OWN.markers(release)
    for name in ("os_name", "sys_platform", "platform_system", "python_version"):
        assert mine[name] == here[name]
    assert mine["platform_machine"].lower() == here["platform_machine"].lower()


def test_the_tests_own_packages_are_added_when_asked_for():
    more = bundle.pinned(PROJECT_ROOT / "tests" / "requirements.txt")
    assert {"ray", "ruff", "torch"} <= {pin.name for pin in more}
    assert len(more) > len(PINS)


def test_a_version_that_is_not_pinned_is_refused(tmp_path):
    listed = tmp_path / "requirements.txt"
    listed.write_text("numpy>=2 ; sys_platform == 'linux'\n-e .\n", encoding="utf-8")
    with pytest.raises(bundle.BundleError, match="numpy>=2.*not pinned with =="):
        bundle.pinned(listed)


def chosen(name, version, *requires):
    """A wheel as pip's report names it, in the bundle of no file."""
    return bundle.Wheel(name, version, "", "", "", list(requires), OWN, "")


@pytest.mark.parametrize(
    ("platform", "missing"),
    [("linux-x86_64", ["nvidia-nccl", "triton"]), ("windows-x86_64", []), ("macos-arm64", [])],
)
def test_what_a_wheel_needs_on_the_learners_system_is_missed(platform, missing):
    on_linux = '; platform_system == "Linux"'
    wheels = {
        "torch": chosen("torch", "2.13.0", f"nvidia-nccl{on_linux}", f"triton==3.1{on_linux}"),
        "triton": chosen("triton", "3.0"),  # there, in another version
    }
    found = bundle.unmet(
        [Requirement("torch==2.13.0")], wheels, Target(platform, "3.12").markers("3.12.0")
    )
    assert [requirement.name for _, requirement in found] == missing
    assert {who for who, _ in found} <= {"torch"}


def test_what_an_extra_needs_is_missed_only_where_the_extra_is_asked_for():
    wheels = {
        "a": chosen("a", "1", "b"),
        "b": chosen("b", "1", "c ; extra == 'more'"),
        "d": chosen("d", "1", "b[more]"),
    }
    markers = OWN.markers("3.12.0")
    assert not bundle.unmet([Requirement("a==1")], wheels, markers)
    ((who, requirement),) = bundle.unmet([Requirement("d==1")], wheels, markers)
    assert (who, requirement.name) == ("b", "c")


def test_a_local_version_of_torch_counts_as_the_pinned_one():
    wheels = {"torch": chosen("torch", "2.13.0+cpu")}
    assert not bundle.unmet([Requirement("torch==2.13.0")], wheels, OWN.markers("3.12.0"))


# --- a series with small wheels -------------------------------------------------------------------

KERNEL = "{name}-{version}.data/data/share/jupyter/kernels/python3/kernel.json"
#: Package -> what it requires.
PACKAGES = {"jupyterlab": ["ipykernel"], "ipykernel": [], "torch": [], "plain": []}


def write_wheel(
    folder, name, version="1.0", requires=(), tag="py3-none-any", size=0, pythons=">=3.11"
):
    """A wheel that pip installs: a module that says its arguments; ipykernel's has a kernel too."""
    files = {
        f"{name}/__init__.py": "",
        f"{name}/__main__.py": "import sys\nprint('ran', sys.argv[1:])",
    }
    if name == "ipykernel":
        files[KERNEL.format(name=name, version=version)] = "{}"
    if size:
        files[f"{name}/weights.bin"] = os.urandom(size)
    about = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines.append(f"Requires-Python: {pythons}")
    files[f"{about}/METADATA"] = "\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires), ""])
    files[f"{about}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
    record = "".join(f"{path},{digest(content)},\n" for path, content in files.items())
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return path


def digest(content):
    content = content.encode() if isinstance(content, str) else content
    text = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"sha256={text}"


class Series:
    """A folder with the real run.py and workshop/, a short list of versions, and wheels for it."""

    def __init__(self, folder):
        self.root, self.wheels = folder / "series", folder / "registry"
        self.wheels.mkdir()
        shutil.copytree(
            PROJECT_ROOT / "workshop",
            self.root / "workshop",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for name in ("run.py", "pyproject.toml", ".gitignore"):
            shutil.copy(PROJECT_ROOT / name, self.root)
        (self.root / "tests").mkdir()
        self.write("tests/requirements.txt", "-r ../requirements.txt\nextra-tool==1.0\n")
        self.write(
            "requirements.txt",
            "ipykernel==1.0\njupyterlab==1.0\ntorch==1.0\nplain==1.0 ; python_version < '3.12'\n"
            "plain==2.0 ; python_version >= '3.12'\nonly-there==1.0 ; sys_platform == 'win32'\n",
        )
        for name, requires in PACKAGES.items():
            write_wheel(self.wheels, name, requires=requires)
        write_wheel(self.wheels, "plain", "2.0")
        write_wheel(self.wheels, "only_there", tag="cp312-cp312-win_amd64", size=3_000_000)
        write_wheel(self.wheels, "extra_tool")

    def write(self, name, text):
        (self.root / name).write_text(text, encoding="utf-8")

    def bundle(self, *arguments):
        """`python run.py workshop bundle ARGUMENTS`, with the small wheels as the registry."""
        return run_python(
            *("-m", "workshop", "bundle", *arguments),
            cwd=self.root,
            PYTHONPATH=os.pathsep.join([str(self.root), os.environ["PYTHONPATH"]]),
            **{"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"},
            PIP_FIND_LINKS=str(self.wheels),
        )


@pytest.fixture
def small(tmp_path):
    return Series(tmp_path)


def there(folder):
    return {path.name for path in (folder / "wheels").iterdir()}


@needs_pip
def test_a_bundle_holds_the_series_and_the_wheels_of_every_system_named(small, tmp_path):
    made = tmp_path / "bundle"
    asked = [*("--platform", "windows-x86_64", "--platform", "macos-arm64"), "--python", "3.12"]
    done = small.bundle(*asked, made)
    assert done.returncode == 0, done.stderr
    assert "windows-x86_64, Python 3.12: 5 wheels, 3 MB" in done.stdout
    assert "macos-arm64, Python 3.12: 4 wheels, 0 MB" in done.stdout
    assert done.stdout.index("To fetch: 5 wheels, 3 MB") < done.stdout.index("fetched")
    assert "Not run: windows-x86_64, Python 3.12; macos-arm64, Python 3.12" in done.stdout
    assert "plain-2.0-py3-none-any.whl" in there(made) and len(there(made)) == 5
    sums = bundle.listed_sums(made)
    files = {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file()}
    assert files - set(sums) == {"SHA256SUMS"} and set(sums) <= files
    assert all(bundle.sha256(made / name) == value for name, value in sums.items())
    assert (made / "run.py").read_bytes() == (small.root / "run.py").read_bytes()


@needs_pip
def test_an_interrupted_bundle_is_completed_and_nothing_is_fetched_twice(small, tmp_path):
    made = tmp_path / "bundle"
    small.write("old.txt", "soon gone")
    small.bundle("--python", "3.11", made)
    store = made / "wheels"
    before = {name: (store / name).stat().st_mtime_ns for name in there(made)}
    (store / "torch-1.0-py3-none-any.whl").unlink()
    (store / "plain-1.0-py3-none-any.whl").write_bytes(b"half of it")
    (store / "jupyterlab-0.9-py3-none-any.whl").write_bytes(b"of an earlier list")
    (small.root / "old.txt").unlink()
    done = small.bundle("--python", "3.11", made)
    assert done.returncode == 0, done.stderr
    assert "To fetch: 2 wheels" in done.stdout and "(2 wheels are there)" in done.stdout
    assert there(made) == set(before) and not (made / "old.txt").exists()
    same = {name for name in before if (store / name).stat().st_mtime_ns == before[name]}
    assert same == {"ipykernel-1.0-py3-none-any.whl", "jupyterlab-1.0-py3-none-any.whl"}
    assert "To fetch: nothing" in small.bundle("--python", "3.11", made).stdout


@needs_pip
def test_a_dry_run_says_the_size_and_writes_nothing(small, tmp_path):
    asked = ["--platform", "windows-x86_64", "--python", "3.12"]
    done = small.bundle("--dry-run", *asked, tmp_path / "bundle")
    assert done.returncode == 0 and "To fetch: 5 wheels, 3 MB" in done.stdout
    assert not (tmp_path / "bundle").exists()


@needs_pip
def test_a_folder_that_holds_something_else_is_left_alone(small, tmp_path):
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter-1.txt").write_text("mine", encoding="utf-8")
    done = small.bundle(other)
    assert done.returncode == 2 and "is not empty and not a bundle" in done.stderr
    assert [path.name for path in other.iterdir()] == ["chapter-1.txt"]
    done = small.bundle(small.root / "bundle")
    assert done.returncode == 2 and "lies within the series" in done.stderr


@needs_pip
def test_a_system_for_which_a_package_has_no_wheel_is_named_before_the_download(small, tmp_path):
    done = small.bundle("--platform", "windows-arm64", "--python", "3.12", tmp_path / "bundle")
    assert done.returncode == 2 and not (tmp_path / "bundle").exists()
    assert "windows-arm64, Python 3.12" in done.stderr and "only-there==1.0" in done.stderr


@needs_pip
@pytest.mark.parametrize(("pythons", "refused"), [("<3.14", "3.14"), (">=3.14", "3.11")])
def test_a_wheel_that_is_not_for_the_learners_python_is_refused(pythons, refused, small, tmp_path):
    """pip would compare with the Python that it runs on."""
    write_wheel(small.wheels, "torch", pythons=pythons)
    for version in ("3.11", "3.14"):
        done = small.bundle("--dry-run", "--python", version, tmp_path / "bundle")
        assert done.returncode == (2 if version == refused else 0), done.stderr
        named = f"torch 1.0 asks for Python {pythons}, not {version}.0"
        assert (named in done.stderr) == (version == refused)


@needs_pip
def test_a_cuda_build_of_torch_is_refused_with_the_way_to_the_other(small, tmp_path):
    needs = 'nvidia-nccl ; platform_system == "Linux"'
    write_wheel(small.wheels, "torch", requires=[needs])
    done = small.bundle("--platform", "linux-x86_64", tmp_path / "bundle")
    assert done.returncode == 2 and not (tmp_path / "bundle").exists()
    assert "CUDA build of torch" in done.stderr and "nvidia-nccl" in done.stderr
    assert "--extra-index-url ADDRESS" in done.stderr
    cpu = tmp_path / "cpu"
    cpu.mkdir()
    write_wheel(cpu, "torch", "1.0+cpu")
    more = ["--platform", "linux-x86_64", "--find-links", cpu]
    done = small.bundle(*more, tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert "torch-1.0+cpu-py3-none-any.whl" in there(tmp_path / "bundle")


@needs_pip
def test_a_package_that_the_list_of_versions_forgets_is_named(small, tmp_path):
    write_wheel(small.wheels, "jupyterlab", requires=["ipykernel>=2", "forgotten"])
    done = small.bundle("--platform", "macos-arm64", tmp_path / "bundle")
    assert done.returncode == 2 and not (tmp_path / "bundle").exists()
    assert "forgotten (required by jupyterlab)" in done.stderr
    assert "ipykernel>=2 (required by jupyterlab)" in done.stderr


# --- sizes ----------------------------------------------------------------------------------------


@contextmanager
def served(**answers):
    """A registry's files on loopback: path -> size announced, or None where it says none."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            size = answers.get(self.path[1:])
            self.send_response(200 if self.path[1:] in answers else 404)
            if size is not None:
                self.send_header("Content-Length", str(size))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_size_is_what_the_server_announces_or_unknown(tmp_path):
    wheels = [chosen(name, "1") for name in ("large", "silent", "absent", "local")]
    (tmp_path / "local").write_bytes(b"x" * 7)
    with served(large=2_500_000, silent=None) as address:
        for wheel in wheels[:3]:
            wheel.size = bundle.size_of(address + wheel.name)
        nobody = address
    wheels[3].size = bundle.size_of((tmp_path / "local").as_uri())
    assert [wheel.size for wheel in wheels] == [2_500_000, None, None, 7]
    assert bundle.size_of(nobody + "large") is None
    assert bundle.in_words(wheels) == "4 wheels, 3 MB, and 2 whose size the registry does not say"
    assert "unknown" in bundle.in_words(wheels[1:3])


def test_wheels_are_fetched_in_groups_of_one_target_and_bounded_size():
    wheels = [chosen(f"p{n}", "1") for n in range(7)]
    for wheel, size in zip(wheels, [1, 60, None, 300, 50, 5, 7], strict=True):
        wheel.size = size and size * 1_000_000
    wheels[5].target = Target("windows-arm64", "3.11")
    groups = list(bundle.batches(wheels))
    assert sorted(w.name for group in groups for w in group) == [f"p{n}" for n in range(7)]
    for group in groups:
        assert len({w.target for w in group}) == 1
        assert len(group) == 1 or sum(w.size or 0 for w in group) <= bundle.BATCH
    assert len(groups) == 4


# --- which files ----------------------------------------------------------------------------------


def test_without_git_the_files_are_all_but_what_is_ignored(tmp_path, monkeypatch):
    tracked = bundle.series()
    for name in tracked:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / name, tmp_path / name)
    for name in (".venv/x", "helpers/__pycache__/x.pyc", ".env", "output/x", "a.egg-info/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("generated", encoding="utf-8")
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    assert set(bundle.series()) == set(tracked)
    names = [f"{'0' * 64}  {name}" for name in ("run.py", "wheels/a.whl", "START-HERE.html")]
    (tmp_path / "SHA256SUMS").write_text("\n".join(names), encoding="utf-8")
    assert [str(name) for name in bundle.series()] == ["run.py"], "a bundle lists its own"


def test_the_start_page_has_the_systems_of_the_bundle_and_what_was_tried():
    targets = [Target("windows-x86_64", "3.12"), Target("linux-x86_64", "3.13")]
    page = bundle.start_page(targets, tried=targets[1:])
    shown = re.sub(r"<section hidden>.*?</section>", "", page, flags=re.S)
    assert "<h2>Windows</h2>" in shown and "<h2>Linux</h2>" in shown
    assert "<h2>macOS</h2>" not in shown and "<h2>macOS</h2>" in page
    rows = re.findall(r"<tr><td>(\w+).*?<td>([^<]*)</td></tr>", shown)
    assert ("Windows", "not run") in rows
    assert ("Linux", "installed and run, without a network") in rows
    assert "Python 3.12 or 3.13" in shown and "$" not in page
    assert "python3.12 --version\npython3.13 --version" in shown
    assert not re.search(r"(src|href)=", page), "it stands alone"


# --- the learner's side ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle for this machine, made once; tests work on copies."""
    if not find_spec("pip"):
        pytest.skip("this environment has no pip")
    folder = tmp_path_factory.mktemp("bundle")
    done = Series(folder).bundle(
        "--platform", OWN.platform, "--python", OWN.python, folder / "made"
    )
    assert done.returncode == 0, done.stderr
    return folder / "made"


@pytest.fixture
def copied(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "copied from a stick"))


def lab(folder, command="lab", **environment):
    """`python run.py lab` in a bundle."""
    more = ["--allow-root"] if command == "lab" else []
    return run_python(folder / "run.py", command, *more, cwd=folder, **environment)


def test_run_py_installs_from_the_bundle_whatever_pip_is_set_to(copied):
    nowhere = "http://127.0.0.1:9/simple"
    (copied / "wheels" / ".DS_Store").write_bytes(b"left by a file manager")
    settings = {"PIP_INDEX_URL": nowhere, "PIP_NO_INDEX": None, "PIP_CONSTRAINT": "/no/such/file"}
    done = lab(copied, **settings, PIP_FIND_LINKS=None)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "ran ['--notebook-dir'" in done.stdout and "checking the bundle" in done.stdout
    (copied / "wheels" / "torch-1.0-py3-none-any.whl").unlink()
    again = lab(copied)
    assert again.returncode == 0 and "checking" not in again.stdout, "it is installed already"


def change(store):
    with (store / "torch-1.0-py3-none-any.whl").open("r+b") as file:
        file.write(b"!")
    return "changed: wheels/torch-1.0-py3-none-any.whl"


def remove(store):
    (store / "ipykernel-1.0-py3-none-any.whl").unlink()
    return "missing: wheels/ipykernel-1.0-py3-none-any.whl"


def add(store):
    write_wheel(store, "jupyterlab", "1.0.post1")
    return "not in the list: wheels/jupyterlab-1.0.post1-py3-none-any.whl"


@pytest.mark.parametrize("damage", [change, remove, add])
def test_a_changed_missing_or_added_wheel_is_refused_before_pip(damage, copied):
    named = damage(copied / "wheels")
    done = lab(copied)
    assert done.returncode == 2 and named in done.stderr
    assert "nothing was installed" in done.stderr and "Copy the whole folder again" in done.stderr
    assert not (copied / ".venv").exists()


def test_repair_keeps_the_environment_where_the_bundle_could_not_make_another(copied):
    (copied / ".venv").mkdir()
    add(copied / "wheels")
    done = lab(copied, "repair")
    assert done.returncode == 2 and "the bundle is damaged" in done.stderr
    assert (copied / ".venv").exists()


@pytest.mark.parametrize("name", ["SHA256SUMS", "bundle.json"])
def test_a_bundle_without_its_list_is_not_whole(name, copied):
    (copied / name).unlink()
    done = lab(copied)
    assert done.returncode == 2 and "this bundle is not whole" in done.stderr
    assert not (copied / ".venv").exists()


def test_a_bundle_for_other_systems_says_which(copied):
    about = {"targets": [["windows-x86_64", "3.1"], ["macos-arm64", "3.2"]], "tests": False}
    (copied / "bundle.json").write_text(json.dumps(about), encoding="utf-8")
    done = lab(copied)
    assert done.returncode == 2 and f"this is {OWN}" in done.stderr
    assert (
        "windows-x86_64, Python 3.1\n" in done.stderr and "macos-arm64, Python 3.2" in done.stderr
    )


def test_the_tests_are_not_in_a_bundle_unless_asked_for(copied, small, tmp_path):
    done = lab(copied, "quick")
    assert done.returncode == 2 and "--with-tests" in done.stderr
    made = tmp_path / "more"
    done = small.bundle("--with-tests", made)
    assert done.returncode == 0, done.stderr
    assert "extra_tool-1.0-py3-none-any.whl" in there(made)


# --- the whole of it ------------------------------------------------------------------------------


def registry_answers(folder):
    """Whether every index that pip is set to ask is reached, from a process with a network."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--retries", "1", "--timeout", "10", "--dest", str(folder), "annotated-doc"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode == 0 and "connection broken" not in done.stderr


@pytest.mark.skipif(not bundle.network_cut(), reason="this system gives no network namespace")
def test_with_the_network_cut_only_this_machine_is_reached():
    code = """
        import socket
        print([name for _, name in socket.if_nameindex()])
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), 5).close()
    """
    done = python(code, within=bundle.network_cut())
    assert done.returncode == 0 and done.stdout.strip() == "['lo']", done.stderr


@needs_pip
@pytest.mark.slow
def test_the_real_bundle_installs_and_runs_with_the_network_cut(tmp_path):
    """Notebook 2; with BUNDLE_NOTEBOOKS=all, all four."""
    if not registry_answers(tmp_path / "probe"):
        pytest.skip("the wheels of the whole bundle come from pip's registry, out of reach here")
    made, path = tmp_path / "bundle", str(PROJECT_ROOT)
    done = run_python("-m", "workshop", "bundle", made, timeout=600, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    everything = os.environ.get("BUNDLE_NOTEBOOKS") == "all"
    notebooks = [] if everything else ["notebooks/02_input_embeddings.ipynb"]
    code = """
        import json, sys
        from pathlib import Path
        from workshop import bundle
        bundle.check(Path(sys.argv[1]), json.loads(sys.argv[2]))
    """
    done = python(code, made, json.dumps(notebooks), timeout=900, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(notebooks) or 'all'} notebooks" in done.stdout
