"""Files out of order: cut, altered, missing, of another version, written by two kernels at once, by one that was killed."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from test_faults_hub import needs_mount

from helpers import PROJECT_ROOT, artifacts, console, files, projection, retrieval, settings
from helpers.cde import MiniCDE
from helpers.settings import OPENAI_VARIABLES

MAP = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "map.npz"
    projection.save_points(path, MAP)
    return path


def test_a_map_comes_back_as_it_was_stored(stored):
    assert np.array_equal(projection._read(stored, 50), MAP)
    assert os.listdir(stored.parent) == ["map.npz"]


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("bomb-went-off",))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    path.write_bytes(b"")


def one_altered_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def other_names_of_another_version(path):
    np.savez_compressed(path, coordinates=MAP, format=2)


def other_shape_of_another_version(path):
    np.savez_compressed(path, points=np.hstack([MAP, MAP]))


def numbers_that_are_not_finite(path):
    np.savez_compressed(path, points=np.full_like(MAP, np.nan))


def words(path):
    np.savez_compressed(path, points=np.array([["a", "b"]] * 50))


def pickled_code(path):
    np.savez_compressed(path, points=np.array([Bomb()], dtype=object))


def bare_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps(Bomb()))


FAULTS = [
    cut, emptied, one_altered_byte, other_names_of_another_version, other_shape_of_another_version, numbers_that_are_not_finite,
    words, pickled_code, bare_pickle,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_stored_map_that_is_not_whole_is_named_and_not_used(stored, fault, monkeypatch):
    monkeypatch.chdir(stored.parent)
    fault(stored)
    with pytest.warns(
        UserWarning, match=r"The stored map map\.npz is damaged \(.*\); computing it anew"
    ):
        assert projection._read(stored, 50) is None
    assert not os.path.exists("bomb-went-off"), "code in a stored file is not run"


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setitem(projection.STEPS, "early_exaggeration_iter", 20)
    monkeypatch.setitem(projection.STEPS, "n_iter", 20)


def test_a_damaged_map_is_computed_anew_and_mended(tmp_path, monkeypatch, few_steps):
    monkeypatch.setattr(projection, "LOCAL", tmp_path)
    vectors = np.random.default_rng(1).normal(size=(60, 8))
    first = projection.tsne_2d(vectors, perplexity=5, progress=False)
    (path,) = tmp_path.iterdir()
    cut(path)
    with pytest.warns(UserWarning, match="damaged"):
        again = projection.tsne_2d(vectors, perplexity=5, progress=False)
    assert again.shape == first.shape and np.array_equal(projection._read(path, 60), again)


KERNEL = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from helpers import projection
    projection.LOCAL = Path(sys.argv[1])
    projection.STEPS.update(early_exaggeration_iter=20, n_iter=20)
    vectors = np.random.default_rng(1).normal(size=(60, 8))
    print("ready", flush=True)
    sys.stdin.readline()
    points = projection.tsne_2d(vectors, perplexity=5, progress=False)
    for _ in range(100):
        projection.save_points(projection.LOCAL / "same.npz", points)
        assert projection._read(projection.LOCAL / "same.npz", 60) is not None
"""


@pytest.mark.skipif(
    os.name == "nt",
    reason="Windows replaces no open file: the second kernel warns and computes again",
)
def test_two_kernels_that_store_the_same_map_at_once_do_not_harm_each_other(tmp_path):
    start = [sys.executable, "-W", "error", "-c", textwrap.dedent(KERNEL), str(tmp_path)]
    pipes = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    kernels = [subprocess.Popen(start, cwd=PROJECT_ROOT, **pipes) for _ in range(2)]
    assert [kernel.stdout.readline() for kernel in kernels] == ["ready\n", "ready\n"]
    for kernel in kernels:
        kernel.stdin.write("go\n")
        kernel.stdin.flush()
    errors = [kernel.communicate(timeout=60)[1] for kernel in kernels]
    assert [kernel.returncode for kernel in kernels] == [0, 0], errors
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz", ".npz"], (
        "the computed map, the other one, and no part"
    )


def test_a_kernel_killed_while_it_writes_leaves_the_old_file_and_a_part_that_is_cleared_later(
    tmp_path,
):
    path = tmp_path / "map.npz"
    path.write_bytes(b"old")
    write = "import sys; from pathlib import Path; from helpers import files\nwhile True: files.write_whole(Path(sys.argv[1]), bytes(200_000_000))"
    kernel = subprocess.Popen([sys.executable, "-c", write, str(path)], cwd=PROJECT_ROOT)
    deadline = time.monotonic() + 20
    while not (parts := list(tmp_path.glob("*.part"))) and time.monotonic() < deadline:
        time.sleep(0.0005)
    kernel.kill()
    kernel.wait()
    assert parts and path.read_bytes() == b"old"
    files.write_whole(path, b"new")
    assert len(os.listdir(tmp_path)) == 2, "a young part may be another kernel's"
    (part,) = tmp_path.glob("*.part")
    os.utime(part, (time.time() - 2 * files.STALE_SECONDS,) * 2)
    files.write_whole(path, b"newer")
    assert path.read_bytes() == b"newer" and os.listdir(tmp_path) == ["map.npz"]


def test_a_place_that_cannot_be_written_is_said_and_the_map_is_there_all_the_same(
    tmp_path, monkeypatch, few_steps
):
    (tmp_path / "file").write_text("in the way of the folder", encoding="utf-8")
    monkeypatch.setattr(projection, "LOCAL", tmp_path / "file" / "tsne")
    with pytest.warns(
        UserWarning, match=r"The map could not be stored .*the next run computes it again"
    ):
        assert projection.tsne_2d(
            np.random.default_rng(1).normal(size=(60, 8)), perplexity=5, progress=False
        ).shape == (60, 2)


@needs_mount
def test_a_full_disk_is_an_error_that_leaves_the_old_file_and_no_part(tmp_path):
    code = """
        import os, sys
        from pathlib import Path
        from helpers import files
        path = Path(sys.argv[1]) / "map.npz"
        files.write_whole(path, b"old")
        try:
            files.write_whole(path, bytes(5_000_000))
        except OSError as error:
            print(error.strerror, path.read_bytes(), os.listdir(path.parent))
    """
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "$0" "$@"'
    command = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        mount,
        sys.executable,
        "-c",
        textwrap.dedent(code),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_ROOT)
    assert done.stdout == "No space left on device b'old' ['map.npz']\n", done.stderr


@pytest.fixture
def env(monkeypatch, tmp_path):
    """Write a `.env` in a project folder of its own; the environment has no OpenAI variable."""
    for name in OPENAI_VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores whatever a test sets
        monkeypatch.delenv(name)
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    monkeypatch.setattr(settings, "PROJECT_ROOT", tmp_path)

    def load(data):
        (tmp_path / ".env").write_bytes(data)
        settings.load_env()
        return os.environ.get("OPENAI_API_KEY")

    return load


@pytest.mark.parametrize(
    "data",
    [
        b"OPENAI_API_KEY=sk-1",
        b"\xef\xbb\xbfOPENAI_API_KEY=sk-1\n",
        b"# mine\r\nOPENAI_API_KEY=sk-1\r\n",
        b'\xef\xbb\xbfOPENAI_API_KEY="sk-1"\r\n',
        b"OPENAI_API_KEY='sk-1'\n",
        b"export OPENAI_API_KEY=sk-1 # at work\n",
        b"OPENAI_API_KEY = sk-1  \n",
        b'OPENAI_API_KEY="sk-1 "\n',
        b'OPENAI_API_KEY="sk-1\\n"\n',
    ],
    ids=[
        "plain",
        "bom",
        "crlf",
        "bom quotes crlf",
        "quotes",
        "export",
        "spaces",
        "space in quotes",
        "line end in quotes",
    ],
)
def test_a_key_is_read_however_the_editor_wrote_the_file(env, data):
    assert env(data) == "sk-1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OPENAI_API_KEY=\n",
        b'OPENAI_API_KEY=""\r\n',
        b"OPENAI_API_KEY=   \n",
        b"\xef\xbb\xbf# OPENAI_API_KEY=sk-1\n",
    ],
)
def test_an_empty_key_is_no_key(env, data):
    assert env(data) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_file_of_another_encoding_is_named(env, encoding):
    with pytest.raises(ValueError, match=r"\.env is not UTF-8 text.*Save it as UTF-8"):
        env("# für später\nOPENAI_API_KEY=sk-planted\n".encode(encoding))


@pytest.mark.parametrize("key", ["sk–planted", "“sk-planted”", "sk-planted and more"])
def test_a_key_with_a_character_that_cannot_be_sent_is_refused_without_showing_it(env, key):
    with pytest.raises(
        ValueError, match="OPENAI_API_KEY contains a character that no key has"
    ) as caught:
        env(f"OPENAI_API_KEY={key}\n".encode())
    assert "planted" not in str(caught.value)


def cut_at_the_end_of_a_line(path):
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("success")], encoding="utf-8")


@pytest.fixture
def themes(tmp_path, monkeypatch):
    shutil.copytree(console.THEMES, tmp_path / "themes")
    monkeypatch.setattr(console, "THEMES", tmp_path / "themes")
    return tmp_path / "themes"


def test_a_missing_theme_is_named_with_what_there_is(themes):
    (themes / "light.theme").unlink()
    with pytest.raises(
        ValueError, match=r"no theme 'light' in themes/ \(found: dark\).*git checkout -- themes"
    ):
        console.load_theme("light")


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        cut_at_the_end_of_a_line,
        emptied,
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text("[styles]\nfocus = bold on on\n", encoding="utf-8"),
    ],
    ids=["cut", "cut at a line", "emptied", "bytes", "no style"],
)
def test_a_broken_theme_is_named_with_the_command_that_restores_it(themes, fault):
    fault(themes / "dark.theme")
    with pytest.raises(
        ValueError,
        match=r"(?s)themes/dark\.theme cannot be read \(.*\)\. Restore it: git checkout -- themes",
    ):
        console.load_theme("dark")
    assert console.load_theme("light")


def test_the_manifest_names_every_file_that_ships_and_its_bytes():
    listed = json.loads(files.MANIFEST.read_text(encoding="utf-8"))
    there = {
        path.relative_to(PROJECT_ROOT).as_posix()
        for pattern in files.SHIPPED
        for path in PROJECT_ROOT.glob(pattern)
    }
    assert set(listed) == there
    assert len(there) == 9
    assert not [
        name for name, digest in listed.items() if files.sha256(PROJECT_ROOT / name) != digest
    ]


@pytest.mark.parametrize(
    ("name", "load"),
    [
        (
            "models/mini-cde/model.safetensors",
            lambda root: MiniCDE.load(root / "models" / "mini-cde"),
        ),
        ("data/money/corpus.jsonl", lambda root: retrieval.load_beir(root / "data" / "money")),
        (
            "data/country/qrels/test.tsv",
            lambda root: retrieval.load_beir(root / "data" / "country"),
        ),
    ],
)
def test_a_file_that_ships_is_checked_before_it_is_opened(tmp_path, monkeypatch, name, load):
    for folder in ("models", "data"):
        shutil.copytree(PROJECT_ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(
        files, "PROJECT_ROOT", tmp_path.resolve()
    )  # a copy of the project's files, one of them altered
    load(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(
        artifacts.ArtifactError, match=rf"{name} .*truncated or altered.*git checkout -- {name}"
    ):
        load(tmp_path)
