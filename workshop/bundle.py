"""Make the bundle: the series and every wheel it needs in one folder, for a room without a network.

    python run.py workshop bundle ../bundle
    python run.py workshop bundle --platform windows-x86_64 --platform macos-arm64 --python 3.11 \
--python 3.12 ../bundle

Which of the pinned packages a system needs is written in environment markers, and pip evaluates
them for the machine it runs on, whatever `--platform` says (pypa/pip#6117). So they are evaluated
here, for each system and version of Python, and pip gets the pins that are left. Then the wheels'
own requirements are evaluated in the same way: one that no wheel of the bundle satisfies is an
error before anything is downloaded.

On the learner's machine `run.py` finds `wheels/` beside it, checks the hashes and installs from it.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import shutil
import ssl
import string
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import run

ROOT = run.ROOT
START, LISTED, SUMS = "START-HERE.html", "bundle.json", "SHA256SUMS"
OURS = {START, LISTED, SUMS}  # beside the series and wheels/

#: Releases of one Python (3.11.0, 3.11.1, ...) for which markers are evaluated.
PATCHES = range(40)
#: Bytes after which one call of pip ends, so that an interrupted download goes on from there.
BATCH = 100_000_000
SECONDS = 20  # to wait for an answer about a file's size


class BundleError(Exception):
    """What is wrong, why, and what to type; shown without a traceback."""


@dataclass(frozen=True)
class Platform:
    """What environment markers ask about a system, and the tags of the wheels that run on it."""

    words: str
    sys_platform: str
    platform_system: str
    platform_machine: str
    tags: tuple[str, ...]


def linux(machine: str) -> Platform:
    """Any Linux with glibc 2.28 or newer, from 2018 on."""
    old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    tags = []
    for minor in range(28, 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in old:
            tags.append(f"{old[minor]}_{machine}")
    words = f"Linux ({machine}) with glibc 2.28 or newer, so from 2018 on"
    return Platform(words, "linux", "Linux", machine, tuple(tags))


#: pip takes wheels for older macOS too; the newest that a package asks for today is 14.
PLATFORMS = {
    "linux-x86_64": linux("x86_64"),
    "linux-aarch64": linux("aarch64"),
    "macos-arm64": Platform(
        "macOS 14 or newer on Apple silicon", "darwin", "Darwin", "arm64", ("macosx_14_0_arm64",)
    ),
    "macos-x86_64": Platform(
        "macOS 14 or newer on Intel", "darwin", "Darwin", "x86_64", ("macosx_14_0_x86_64",)
    ),
    "windows-x86_64": Platform(
        "Windows 10 or 11, 64 bit", "win32", "Windows", "AMD64", ("win_amd64",)
    ),
    "windows-arm64": Platform("Windows 11 on ARM", "win32", "Windows", "ARM64", ("win_arm64",)),
}
PYTHONS = [f"{run.OLDEST[0]}.{minor}" for minor in range(run.OLDEST[1], run.NEWEST[1] + 1)]


@dataclass(frozen=True)
class Target:
    """A system (a name in `PLATFORMS`) and a version of Python, such as 3.11."""

    platform: str
    python: str

    def __str__(self) -> str:
        return f"{self.platform}, Python {self.python}"

    def markers(self, full_version: str) -> dict[str, str]:
        """Environment markers as that Python, for example 3.11.4, would answer them there."""
        system = PLATFORMS[self.platform]
        return {
            "implementation_name": "cpython",
            "implementation_version": full_version,
            "os_name": "nt" if system.sys_platform == "win32" else "posix",
            "platform_machine": system.platform_machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": system.platform_system,
            "platform_version": "",
            "python_full_version": full_version,
            "python_version": self.python,
            "sys_platform": system.sys_platform,
            "extra": "",
        }

    def pip_options(self, full_version: str) -> list[str]:
        """Options with which pip chooses wheels for this target instead of for its own machine."""
        options = ["--no-deps", "--only-binary=:all:", "--python-version", full_version]
        options += ["--implementation", "cp", "--abi", "cp" + self.python.replace(".", "")]
        for tag in PLATFORMS[self.platform].tags:
            options += ["--platform", tag]
        return options


@dataclass
class Wheel:
    """A file that pip has chosen, before it is downloaded."""

    name: str
    version: str
    file: str
    sha256: str
    url: str
    requires: list[str]
    target: Target
    full_version: str
    size: int | None = field(default=None)


# --- which wheels ---------------------------------------------------------------------------------


def pinned(path: Path) -> list[Requirement]:
    """The requirements of a file and of those it includes; the series itself (`-e .`) is left out.

    Raises:
        BundleError: a line is not a version pinned with `==`.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found += pinned(path.parent / line[3:].strip())
        elif line and not line.startswith("-e "):
            if "==" not in line.partition(";")[0]:
                raise BundleError(f"{path.name}: {line!r} is not pinned with ==; pin it first")
            found.append(Requirement(line))
    return found


def applying(requirements: Sequence[Requirement], target: Target) -> dict[str, list[Requirement]]:
    """What a target needs: full version of Python -> requirements without their markers.

    Markers can tell 3.11.4 from 3.11.5, so a target has one entry for each release at which the
    list changes, and a bundle for 3.11 holds what any 3.11 needs.
    """
    found: dict[str, list[Requirement]] = {}
    lists = []
    for patch in PATCHES:
        version = f"{target.python}.{patch}"
        markers = target.markers(version)
        chosen = [r for r in requirements if r.marker is None or r.marker.evaluate(markers)]
        if chosen not in lists:
            lists.append(chosen)
            found[version] = [Requirement(f"{r.name}{r.specifier}") for r in chosen]
    return found


def unmet(
    pins: Iterable[Requirement], wheels: Mapping[str, Wheel], markers: Mapping[str, str]
) -> list[tuple[str, Requirement]]:
    """What no wheel satisfies, of all that the pins and then the wheels themselves require.

    Args:
        wheels: by normalised name.
        markers: of the target, as `Target.markers` gives them.

    Returns:
        (who requires it, requirement) pairs, in order of names.
    """
    open_, seen, missing = [("requirements.txt", pin) for pin in pins], set(), {}
    while open_:
        who, requirement = open_.pop()
        wheel = wheels.get(canonicalize_name(requirement.name))
        if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
            missing[who, str(requirement)] = requirement
            continue
        for extra in {"", *requirement.extras}:
            if (wheel.name, extra) in seen:
                continue
            seen.add((wheel.name, extra))
            for text in wheel.requires:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({**markers, "extra": extra}):
                    open_.append((wheel.name, needed))
    return [(who, requirement) for (who, _), requirement in sorted(missing.items())]


def pip(*arguments: object) -> None:
    """Run pip as it is configured here.

    Raises:
        BundleError: pip failed; with the lines in which it says why.
    """
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(
        command, env=run.environment(), capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = [line for line in lines if line.startswith("ERROR")] or lines[-5:]
        raise BundleError("pip failed:\n    " + "\n    ".join(dict.fromkeys(said)))


def chosen_by_pip(
    target: Target, version: str, pins: Iterable[Requirement], sources: Sequence[str]
) -> list[Wheel]:
    """The wheel of every pin for a target; the registry is asked, and nothing is downloaded.

    `pip install --dry-run` compares Requires-Python with the Python it runs on, whatever
    `--python-version` says; so it is told to leave that out, and the comparison is made here.

    Raises:
        BundleError: there is no wheel of a pin for the target, or the registry cannot be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        listed.write_text("\n".join(map(str, pins)), encoding="utf-8")
        options = ["--quiet", "--dry-run", "--ignore-installed", "--target", Path(folder, "none")]
        options += ["--ignore-requires-python", "--report", report, "--requirement", listed]
        try:
            pip("install", *options, *target.pip_options(version), *sources)
        except BundleError as error:
            raise BundleError(
                f"{target}: {error}\nA package without a wheel for this system cannot be in a "
                "bundle: leave the system out. Without\na network, make the bundle elsewhere."
            ) from None
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    wheels = []
    for item in items:
        url, metadata = item["download_info"]["url"], item["metadata"]
        pythons = metadata.get("requires_python") or ""
        if not SpecifierSet(pythons).contains(version):
            raise BundleError(
                f"{target}: {metadata['name']} {metadata['version']} asks for Python {pythons}, "
                f"not {version}.\nPin a version for it in requirements.txt, or leave it out."
            )
        kind, _, sha256 = item["download_info"]["archive_info"].get("hash", "").partition("=")
        if kind != "sha256":
            raise BundleError(f"{target}: the index gives no SHA-256 of {metadata['name']}")
        wheels.append(
            Wheel(
                name=metadata["name"],
                version=metadata["version"],
                file=unquote(PurePosixPath(urlsplit(url).path).name),
                sha256=sha256,
                url=url,
                requires=metadata.get("requires_dist", []),
                target=target,
                full_version=version,
            )
        )
    return wheels


def cuda_build(target: Target, torch: Wheel, missing: Iterable[Requirement]) -> BundleError:
    names = sorted({requirement.name for requirement in missing})
    return BundleError(
        f"{target}: pip takes a CUDA build of torch ({torch.file}).\nIt cannot be imported "
        f"without {len(names)} more packages that are not in the list of versions: "
        f"{', '.join(names)}.\nTake the CPU build: choose your system, Pip and CPU on "
        "pytorch.org/get-started, and repeat the command\nwith the address that stands behind "
        "--index-url there:\n\n"
        "    python run.py workshop bundle --extra-index-url ADDRESS ...\n\n"
        "A folder that holds the wheel will do as well: --find-links FOLDER"
    )


def wheels_for(
    target: Target, requirements: Sequence[Requirement], sources: Sequence[str]
) -> list[Wheel]:
    """Every wheel that a target needs, checked to be all that it needs.

    Raises:
        BundleError: a wheel is missing, or something that a wheel requires.
    """
    found: dict[str, Wheel] = {}  # pin -> wheel
    for version, pins in applying(requirements, target).items():
        new = [pin for pin in pins if str(pin) not in found]
        by_name = {canonicalize_name(pin.name): str(pin) for pin in new}
        for wheel in chosen_by_pip(target, version, new, sources):
            found[by_name[canonicalize_name(wheel.name)]] = wheel
        wheels: dict[str, Wheel] = {canonicalize_name(p.name): found[str(p)] for p in pins}
        missing = unmet(pins, wheels, target.markers(version))
        if cuda := [r for who, r in missing if who == "torch"]:
            raise cuda_build(target, wheels["torch"], cuda)
        if missing:
            lines = [f"    {requirement} (required by {who})" for who, requirement in missing]
            raise BundleError(
                f"{target}: the list of versions is not complete for Python {version}. Add to "
                "requirements.txt:\n" + "\n".join(lines)
            )
    return list(found.values())


# --- sizes and downloads --------------------------------------------------------------------------


def size_of(url: str) -> int | None:
    """Bytes of the file at this address, as the server announces them; None if it does not."""
    try:
        context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (pip's own address)
        with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None


def in_words(wheels: Iterable[Wheel]) -> str:
    """`3 wheels, 12 MB`, and for how many of them the size is not known."""
    sizes = [wheel.size for wheel in wheels]
    unknown = sizes.count(None)
    if unknown and unknown == len(sizes):
        return f"{len(sizes)} wheels, their sizes unknown: the registry does not say"
    known = sum(size for size in sizes if size is not None)
    least = f", and {unknown} whose size the registry does not say" if unknown else ""
    return f"{len(sizes)} wheels, {known / 1e6:,.0f} MB{least}"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def batches(wheels: Sequence[Wheel]) -> Iterator[list[Wheel]]:
    """Wheels of one target at a time, in groups of about `BATCH` bytes, the small ones first."""
    order = sorted(wheels, key=lambda w: (str(w.target), w.full_version, w.size or 0))
    batch: list[Wheel] = []
    for wheel in order:
        same = not batch or (batch[0].target, batch[0].full_version) == (
            wheel.target,
            wheel.full_version,
        )
        if not same or sum(w.size or 0 for w in [*batch, wheel]) > BATCH:
            yield batch
            batch = []
        batch.append(wheel)
    if batch:
        yield batch


def download(wheels: Sequence[Wheel], folder: Path, sources: Sequence[str]) -> None:
    """Fetch wheels into a folder; pip refuses one whose hash is not the one announced before.

    Raises:
        BundleError: pip failed; what is there by then stays, and the next run goes on from there.
    """
    done: list[Wheel] = []
    for batch in batches(wheels):
        with tempfile.TemporaryDirectory() as temporary:
            listed = Path(temporary, "pins.txt")
            pins = [f"{w.name}=={w.version} --hash=sha256:{w.sha256}" for w in batch]
            listed.write_text("\n".join(pins), encoding="utf-8")
            options = ["--quiet", "--dest", folder, "--requirement", listed]
            try:
                pip(
                    "download",
                    *options,
                    *batch[0].target.pip_options(batch[0].full_version),
                    *sources,
                )
            except BundleError as error:
                raise BundleError(f"{error}\nThe same command again goes on from here.") from None
        done += batch
        print(f"    fetched {in_words(done)}", flush=True)


# --- the folder -----------------------------------------------------------------------------------


def series() -> list[PurePosixPath]:
    """The files of the series: what git tracks, else what the bundle that this is lists, else all
    but what .gitignore names.
    """
    if (ROOT / ".git").exists():
        done = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True)
        if done.returncode == 0:
            names = [name for name in done.stdout.decode().split("\0") if name]
            return [PurePosixPath(name) for name in names if (ROOT / name).is_file()]
    if (ROOT / SUMS).is_file():
        return [PurePosixPath(n) for n in listed_sums(ROOT) if n not in OURS and n[:7] != "wheels/"]
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [line.strip().rstrip("/") for line in lines if line.strip() and line[0] != "#"]
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [n for n in folders if not any(fnmatch(n, p) for p in [*ignored, "wheels"])]
        names = [n for n in files if not any(fnmatch(n, p) for p in ignored)]
        found += [PurePosixPath(Path(folder, name).relative_to(ROOT).as_posix()) for name in names]
    return sorted(found)


def listed_sums(folder: Path) -> dict[str, str]:
    """File -> SHA-256, from the list of a bundle; empty where there is none yet."""
    if not (folder / SUMS).is_file():
        return {}
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def start_page(targets: Sequence[Target], tried: Sequence[Target]) -> str:
    """START-HERE.html: what to type on each system that the bundle is for."""
    template = (ROOT / "workshop" / "start-here.html").read_text(encoding="utf-8")
    rows = []
    for target in targets:
        words = html.escape(PLATFORMS[target.platform].words)
        state = "installed and run, without a network" if target in tried else "not run"
        rows.append(f"<tr><td>{words}</td><td>{target.python}</td><td>{state}</td></tr>")
    systems = {target.platform.partition("-")[0] for target in targets}
    pythons = sorted({target.python for target in targets}, key=PYTHONS.index)
    either = pythons[0] if len(pythons) == 1 else f"{', '.join(pythons[:-1])} or {pythons[-1]}"
    shown = {s: "" if s in systems else "hidden" for s in ("windows", "macos", "linux")}
    versions = "\n".join(f"python{python} --version" for python in pythons)
    return string.Template(template).substitute(
        rows="\n".join(rows), pythons=either, python=pythons[-1], versions=versions, **shown
    )


def describe(folder: Path, targets: Sequence[Target], tried: Sequence[Target], tests: bool) -> None:
    """Write what says what is in the bundle; SHA256SUMS comes last, so that it means: whole."""
    about = {
        "targets": [[target.platform, target.python] for target in targets],
        "tests": tests,
    }
    (folder / LISTED).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8", newline="\n")
    page = start_page(targets, tried)
    (folder / START).write_text(page, encoding="utf-8", newline="\n")
    names = [str(name) for name in series()] + [START, LISTED]
    names += [f"wheels/{path.name}" for path in (folder / "wheels").iterdir()]
    lines = [f"{sha256(folder / name)}  {name}" for name in sorted(names)]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def prepare(folder: Path) -> None:
    """Make the folder, or take up one that an earlier run has made.

    Raises:
        BundleError: it holds something else, or lies within the series.
    """
    if folder == ROOT or ROOT in folder.parents:
        raise BundleError(f"{folder} lies within the series; name a folder outside, like ../bundle")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LISTED).is_file():
        raise BundleError(
            f"{folder} is not empty and not a bundle; nothing was changed. Name a new folder"
        )
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    if not (folder / LISTED).exists():
        (folder / LISTED).write_text("{}", encoding="utf-8")  # says whose folder this is


def free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def make(
    folder: Path,
    targets: Sequence[Target],
    *,
    tests: bool = False,
    dry_run: bool = False,
    sources: Sequence[str] = (),
) -> None:
    """Make or complete a bundle; what is there with the right hash is not fetched again.

    Args:
        tests: add what `python run.py tests` needs.
        dry_run: say what would be fetched, and stop.
        sources: options of pip that say where wheels come from.

    Raises:
        BundleError: something is missing, does not fit on the disk, or could not be fetched.
    """
    requirements = pinned(ROOT / ("tests/requirements.txt" if tests else "requirements.txt"))
    wheels: dict[str, Wheel] = {}
    sets = {}
    for target in targets:
        print(f"{target}: asking the registry ...", flush=True)
        sets[target] = wheels_for(target, requirements, sources)
        for wheel in sets[target]:
            if wheels.setdefault(wheel.file, wheel).sha256 != wheel.sha256:
                raise BundleError(
                    f"two different files are called {wheel.file}; nothing was fetched"
                )
    with ThreadPoolExecutor(8) as pool:
        sizes = dict(zip(wheels, pool.map(size_of, [w.url for w in wheels.values()]), strict=True))
    for wheel in (wheel for chosen in sets.values() for wheel in chosen):
        wheel.size = sizes[wheel.file]
    for target, chosen in sets.items():
        print(f"{target}: {in_words(chosen)}")

    store, files = folder / "wheels", series()
    there = {p.name for p in store.glob("*.whl")} if store.is_dir() else set()
    good = {name for name in there & set(wheels) if sha256(store / name) == wheels[name].sha256}
    fetched = [wheel for name, wheel in wheels.items() if name not in good]
    needed = sum((ROOT / name).stat().st_size for name in files)
    print(f"The bundle: {in_words(wheels.values())}; the series itself {needed / 1e6:,.0f} MB")
    print(f"To fetch: {in_words(fetched) if fetched else 'nothing'} ({len(good)} wheels are there)")
    needed += sum(wheel.size or 0 for wheel in fetched)
    free = free_bytes(folder)
    print(f"Free there: {free / 1e9:,.1f} GB", flush=True)
    if dry_run:
        return
    if free < needed:
        raise BundleError(
            f"{needed / 1e9:.1f} GB do not fit; free some space, or name another disk"
        )

    prepare(folder)
    earlier = listed_sums(folder)
    (folder / SUMS).unlink(missing_ok=True)  # until the end this is not a whole bundle
    for name in there - good:
        (store / name).unlink()
    download(fetched, store, sources)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file)
    for stale in set(earlier) - {str(file) for file in files} - OURS:
        if not stale.startswith("wheels/"):
            (folder / stale).unlink(missing_ok=True)
    describe(folder, targets, (), tests)


# --- trying it ------------------------------------------------------------------------------------


def network_cut() -> list[str]:
    """A command that runs another one with loopback as its only network; empty where none does."""
    namespace = ["unshare", "--map-root-user", "--net", "sh", "-c"]
    namespace.append('ip link set lo up && exec "$0" "$@"')
    if not shutil.which("unshare"):
        return []
    works = subprocess.run([*namespace, "true"], capture_output=True).returncode == 0
    return namespace if works else []


#: What a fresh machine does not have: settings of this one that could help, or do harm.
OF_THIS_MACHINE = ("PIP_", "PYTHON", "VIRTUAL_ENV", "OPENAI_", "EMBEDDINGS_", "HF_", "RAY_")
NOWHERE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9") | {
    "NO_PROXY": "127.0.0.1,localhost"
}


def check(folder: Path, notebooks: Sequence[str] = ()) -> None:
    """Install from a copy of the bundle and run notebooks in it, with the network cut.

    Args:
        notebooks: which; all of them by default.

    Raises:
        BundleError: the installation or a notebook failed.
    """
    cut = network_cut()
    how = (
        "the network is cut" if cut else "this system cannot cut the network: proxies lead nowhere"
    )
    variables = {n: v for n, v in os.environ.items() if not n.startswith(OF_THIS_MACHINE)}
    variables |= {} if cut else NOWHERE | {n.lower(): v for n, v in NOWHERE.items()}
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-check-", dir=folder.parent) as copy:
        fresh = Path(copy, "series")
        shutil.copytree(folder, fresh)
        print(f"Checking the bundle in {fresh} ({how}) ...", flush=True)
        begun = time.monotonic()
        command = [*cut, sys.executable, str(fresh / "run.py"), "execute", *notebooks]
        if subprocess.run(command, cwd=fresh, env=variables).returncode:
            raise BundleError(
                "installing from the bundle or a notebook failed; the lines above say why"
            )
        used = sum(p.lstat().st_size for p in (fresh / ".venv").rglob("*") if p.is_file())
        print(
            f"Installed, and ran {len(notebooks) or 'all'} notebooks in "
            f"{time.monotonic() - begun:.0f} s; .venv takes {used / 1e9:.1f} GB"
        )


# --- the command ----------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python run.py workshop bundle",
        description="Make a folder that holds the series and all that it installs. Learners need "
        "Python and the folder, and no network. Interrupted, the same command goes on.",
    )
    add = parser.add_argument
    add("output", type=Path, metavar="OUTPUT", help="the folder to make, outside of the series")
    add(
        "--platform",
        action="append",
        choices=PLATFORMS,
        help="a system that learners bring; repeat it for more (default: this one)",
    )
    add(
        "--python",
        action="append",
        choices=PYTHONS,
        help="a version of Python that learners have; repeat it for more (default: this one's)",
    )
    add("--with-tests", action="store_true", help="add what `python run.py tests` needs")
    add("--dry-run", action="store_true", help="say how large it would be, and stop")
    add(
        "--check",
        action="store_true",
        help="then install from the bundle and run all notebooks, with the network cut; "
        "for this system only",
    )
    for option in ("--index-url", "--extra-index-url", "--find-links"):
        add(option, action="append", help="where pip looks for wheels; passed on to it")
    return parser


def main(arguments: Sequence[str]) -> int:
    asked = parser().parse_args(arguments)
    own = Target(run.this_platform(), "{}.{}".format(*sys.version_info))
    targets = [
        Target(platform, python)
        for platform in dict.fromkeys(asked.platform or [own.platform])
        for python in dict.fromkeys(asked.python or [own.python])
    ]
    sources = [
        text
        for option in ("--index-url", "--extra-index-url", "--find-links")
        for value in getattr(asked, option[2:].replace("-", "_")) or []
        for text in (option, value)
    ]
    folder = asked.output.resolve()
    try:
        if own.platform not in PLATFORMS and not asked.platform:
            raise BundleError(
                f"name a system with --platform: {own.platform} is none of {list(PLATFORMS)}"
            )
        if asked.check and own not in targets:
            raise BundleError(f"--check installs on this machine, so add {own} to the bundle")
        make(folder, targets, tests=asked.with_tests, dry_run=asked.dry_run, sources=sources)
        if asked.dry_run:
            return 0
        if asked.check:
            check(folder)
            describe(folder, targets, [own], asked.with_tests)
    except BundleError as error:
        print(f"workshop bundle: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # no room, no right to write, a stick that was pulled out
        print(f"workshop bundle: {error}\nAfterwards the same command goes on.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("workshop bundle: stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    print(f"\n{folder} is ready: copy the whole folder. Learners begin with {START} in it.")
    if not_run := [str(t) for t in targets if not (asked.check and t == own)]:
        print("Not run: " + "; ".join(not_run))
        print("Install from it once on such a machine before the day.")
    return 0
