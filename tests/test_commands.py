"""The commands on a fresh machine, the lock files and the wheel."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments, cwd=ROOT, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path):
    """The parts of the repository that the Makefile reads, in a new folder with a space in its name."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    return folder


def locked(path):
    """Names and versions in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE))


# Lock files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_locks_hold_versions_and_hashes_but_no_addresses(path):
    text = path.read_text()
    assert "://" not in text
    requirements = re.split(r"(?m)^(?=\w)", re.sub(r"(?m)^\s*#.*\n", "", text))
    assert len(requirements) > 1
    for requirement in filter(str.strip, requirements):
        assert re.match(r"[\w.-]+==\S+", requirement)
        assert "--hash=sha256:" in requirement


def test_demo_and_tests_run_the_same_versions():
    demo, tests = (locked(ROOT / "requirements" / f"{name}.lock") for name in ("demo", "test"))
    assert demo.items() <= tests.items()


@pytest.mark.parametrize(("lock", "extras"), [("demo", "plots draw"), ("test", "plots draw special gallery dev")])
def test_locks_cover_the_declared_dependencies(lock, extras):
    optional = PROJECT["project"]["optional-dependencies"]
    declared = PROJECT["project"]["dependencies"] + [line for extra in extras.split() for line in optional[extra]]
    names = {re.match(r"[\w-]+", line)[0] for line in declared} - {"autograd-core"}
    assert names <= locked(ROOT / "requirements" / f"{lock}.lock").keys()


# make -----------------------------------------------------------------------------------------------------------------


@needs_make
def test_help_lists_every_command():
    said = make("help").stdout
    phony = re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text())[1].split()
    assert [line.split()[1] for line in said.splitlines()] == phony


@needs_make
@pytest.mark.parametrize("command", ["demo", "test"])
def test_missing_python_is_said_in_one_sentence(checkout, command, tmp_path):
    run = make(command, PYTHON="/nowhere/python3", cwd=checkout)
    assert run.returncode != 0
    assert "PYTHON=/nowhere/python3 is not Python 3.11 or newer with venv" in run.stdout + run.stderr
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "make").symlink_to(shutil.which("make"))
    (bare / "sh").symlink_to(shutil.which("sh"))
    run = make(command, PATH=str(bare), cwd=checkout)
    assert "needs Python 3.11 or newer with venv on the PATH" in run.stdout + run.stderr
    assert not (checkout / ".venv").exists()


@needs_make
@pytest.mark.skipif(os.name == "nt", reason="the stand-in for an old Python is a shell script")
def test_too_old_python_is_passed_over(checkout, tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "python3.13").symlink_to(sys.executable)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    probe = checkout / "probe.mk"
    probe.write_text((checkout / "Makefile").read_text() + "\nprobe:\n\t@echo '$(PYTHON)'\n")
    assert make("-f", "probe.mk", "probe", PATH=path, cwd=checkout).stdout.strip() in {"python3.14", "python3.13"}


@needs_make
@pytest.mark.parametrize("command", ["demo", "test"])
def test_second_run_sets_nothing_up(checkout, command):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / f"{command}.stamp").touch()
    planned = make("--dry-run", command, cwd=checkout).stdout
    assert "pip" not in planned
    os.utime(checkout / "requirements" / f"{command}.lock", (2**31, 2**31))
    assert "pip" in make("--dry-run", command, cwd=checkout).stdout


@needs_make
def test_what_the_commands_run():
    touched = [f"--old-file=.venv/{name}.stamp" for name in ("demo", "test")]
    assert make("--dry-run", *touched, "demo").stdout.strip().endswith("agrad train lenet5")
    planned = make("--dry-run", *touched, "test").stdout
    assert planned.index("ruff check") < planned.index("mypy") < planned.index("pytest")
    assert "-m pytest" in planned.strip().splitlines()[-1]
    assert re.search(r"CI=true .*make test", (ROOT / ".ci" / "run").read_text())


# The package ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel's file names, and its metadata."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("autograd_core", "nn", "optim"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("/METADATA")]
        return names, archive.read(metadata).decode()


def test_wheel_carries_every_file_of_the_packages(wheel):
    names, _ = wheel
    for package in ("autograd_core", "nn", "optim"):
        assert f"{package}/py.typed" in names
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":  # for readers of the code
                assert path.relative_to(ROOT).as_posix() in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"autograd_core", "nn", "optim"}


def test_wheel_asks_every_user_for_little(wheel):
    _, metadata = wheel
    asked = re.findall(r"(?m)^Requires-Dist: ([\w-]+)[^;\n]*$", metadata)
    assert sorted(asked) == ["graphviz", "numba", "numpy", "rich", "safetensors"]
    assert "Requires-Python: >=3.11" in metadata


def test_console_script():
    assert PROJECT["project"]["scripts"] == {"agrad": "nn.cli:main"}
