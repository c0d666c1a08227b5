"""The image's install steps in a fresh environment, and wheel and sdist installed elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from streams.runtime import compiled

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
OURS = ("engine", "streams")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """The result of the first stage of the Dockerfile, in temporary directories."""

    root: Path
    wheel: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of the image's environment, with nothing of this checkout in reach."""
        env = {"PATH": f"{self.root / 'venv' / 'bin'}:/usr/bin:/bin", "HOME": str(self.root)}
        return subprocess.run(
            command,
            cwd=self.root / "elsewhere",
            env=env | environment,
            capture_output=True,
            text=True,
            check=False,
        )


def instructions() -> Iterator[tuple[str, str]]:
    """Of the first stage: the instruction and its text, continued lines joined."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    first_stage = text.split("\nFROM ")[1]
    for line in first_stage.splitlines()[1:]:
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            if not rest.startswith("apt-get"):  # the machine of the test has its own compiler
                yield name, rest


def copied(what: str, target: Path, root: Path) -> None:
    *sources, destination = what.split()
    for pattern in sources:
        for path in ROOT.glob(pattern):
            to = root / "src" / destination
            if path.is_dir():
                shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, to if destination != "./" else root / "src")
    assert target.exists()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("image")
    (root / "elsewhere").mkdir()
    (root / "src").mkdir()
    for name, text in instructions():
        if name == "COPY":
            copied(text, root / "src", root)
        elif name == "RUN":
            text = re.sub(r"(?<![\w/])/(venv|build|wheel)\b", rf"{root}/\1", text)
            run = subprocess.run(
                # With pip's cache, which has most of it from `make setup`.
                [
                    "sh",
                    "-ec",
                    text.replace("--no-cache-dir ", "").replace(
                        "python -m", f"{sys.executable} -m"
                    ),
                ],
                cwd=root / "src",
                env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, f"RUN {text}\n{run.stdout}{run.stderr}"
        else:
            assert name == "WORKDIR"
    (wheel,) = (root / "wheel").glob("*.whl")
    return Installed(root, wheel)


@pytest.mark.timeout(180)
def test_the_image_runs_every_role(installed: Installed) -> None:
    for command in (
        ["--help"],
        ["worker", "--help"],
        ["topics", "create", "--help"],
        ["feed", "jsonl", "--help"],
        ["status", "--help"],
        ["console", "--help"],
        ["settings"],
    ):
        run = installed.run("seatflow", *command)
        assert run.returncode == 0, run.stderr
        assert "Traceback" not in run.stderr
    code = (
        "import streams.worker.worker, streams.console.app, engine.partition_machine;"
        " print(streams.__file__)"
    )
    run = installed.run("python", "-c", code)
    assert run.returncode == 0, run.stderr
    assert str(installed.root / "venv") in run.stdout


def test_the_image_has_no_installer_and_no_tests(installed: Installed) -> None:
    assert not list((installed.root / "venv" / "bin").glob("pip*"))
    assert installed.run("python", "-c", "import tests").returncode != 0
    assert installed.run("python", "-c", "import pytest").returncode != 0


def test_a_worker_of_the_image_says_what_is_wrong_and_ends(installed: Installed) -> None:
    run = installed.run("seatflow", "worker", SEATFLOW_BROKERS="nonsense")
    assert run.returncode == 78
    assert run.stderr.startswith("seatflow: SEATFLOW_BROKERS is 'nonsense'")


def test_the_image_writes_nothing_where_it_is(installed: Installed) -> None:
    """Its root file system is read-only: compiled files are all there, nothing is made at run."""
    before = sorted((installed.root / "venv").rglob("*"))
    assert installed.run("seatflow", "settings", PYTHONDONTWRITEBYTECODE="1").returncode == 0
    assert sorted((installed.root / "venv").rglob("*")) == before


def test_the_wheel_has_all_that_the_packages_have(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in OURS
        for path in (installed.root / "src" / package).rglob("*")
        for path in [ROOT / path.relative_to(installed.root / "src")]
        if path.is_file() and path.suffix != ".md"
    }
    assert wanted - names == set()
    assert {"engine/py.typed", "streams/py.typed"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_runs_compiled_unless_told_otherwise(installed: Installed) -> None:
    assert installed.wheel.name.startswith(f"seatflow-{version('seatflow')}-cp3")
    code = (
        "import streams; from streams.runtime import compiled; from importlib import import_module;"
        " print(streams.COMPILED,"
        " *{import_module(n).__file__.rpartition('.')[2] for n in compiled.module_paths()})"
    )
    assert installed.run("python", "-c", code).stdout.split() == ["True", "so"]
    plain = code.replace(
        "module_paths()", "module_paths() if 'native' not in n and 'scan' not in n"
    )
    assert installed.run("python", "-c", plain, SEATFLOW_PURE="1").stdout.split() == ["False", "py"]
    short_cuts = (
        "import streams, engine.documents.user_documents as d, engine.domain.deduplication as e;"
        " print(d._native is None, e._native is None)"
    )
    assert installed.run("python", "-c", short_cuts).stdout.split() == ["False", "False"]
    told = installed.run("python", "-c", short_cuts, SEATFLOW_PURE="1").stdout.split()
    assert told == ["True", "True"]
    assert installed.run("seatflow", "--version").stdout.strip().endswith(", compiled")
    told = installed.run("seatflow", "--version", SEATFLOW_PURE="1").stdout.split(", ")
    assert told[1:] == ["plain Python\n"]


@pytest.mark.timeout(120)
def test_the_sdist_installs_and_runs(installed: Installed, tmp_path: Path) -> None:
    src = installed.root / "src"
    build = {**os.environ, "PYTHONPATH": str(installed.root / "build"), "SEATFLOW_PURE_BUILD": "1"}
    code = f"from setuptools import build_meta as b; print(b.build_sdist({str(tmp_path)!r}))"
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=src,
        env=build,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (archive,) = tmp_path.glob("seatflow-*.tar.gz")
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"setup.py", "streams/local/kafka_files/pom.xml", *compiled.SHORT_CUTS} <= names
    target = tmp_path / "installed"
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    run = subprocess.run(
        [sys.executable, *command, "--target", target, archive],
        env=build,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    shown = installed.run("python", "-m", "streams", "settings", PYTHONPATH=str(target))
    assert shown.returncode == 0, shown.stderr
    assert "SEATFLOW_BROKERS" in shown.stdout
    # Kafka's files are found wherever the packages are: --user and --target leave sys.prefix alone.
    code = "from streams.local.kafka_jars import KAFKA_FILES as f; print(*f.iterdir())"
    found = installed.run("python", "-c", code, PYTHONPATH=str(target)).stdout.split()
    assert {Path(name).name for name in found} == {"pom.xml", "log4j2.xml"}
    assert all(Path(name).is_relative_to(target) for name in found)


def test_a_pure_wheel_can_be_built_beside_the_compiled_one(
    installed: Installed, tmp_path: Path
) -> None:
    build = {**os.environ, "PYTHONPATH": str(installed.root / "build"), "SEATFLOW_PURE_BUILD": "1"}
    src = tmp_path / "src"
    shutil.copytree(
        installed.root / "src", src, ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    code = f"from setuptools import build_meta as b; print(b.build_wheel({str(tmp_path)!r}))"
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=src,
        env=build,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]


def test_both_packages_are_typed_for_those_who_import_them() -> None:
    for package in OURS:
        assert (ROOT / package / "py.typed").exists()
