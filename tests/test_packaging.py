import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = PROJECT["tool"]["setuptools"]["py-modules"]
SCRIPTS = PROJECT["project"]["scripts"]
PACKAGES = ("electra_tf2", "finetune")


def test_every_top_level_module_is_packaged():
    there = {path.stem for path in ROOT.glob("*.py")} - {"conftest"}
    assert there == set(MODULES)


def test_every_script_has_a_command_of_its_name():
    scripts = {name for name in MODULES if not name.startswith("configure_")}
    assert SCRIPTS == {name: f"{name}:script_main" for name in scripts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", *(f"{name}.py" for name in MODULES)):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    for package in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    # Without build isolation: setuptools is a test requirement, so no network is needed.
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", source / "dist", source)
    (path,) = (source / "dist").glob("*.whl")
    return path


def _pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_wheel_holds_library_and_modules_and_nothing_else(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    expected = {f"{name}.py" for name in MODULES}
    for package in PACKAGES:
        expected |= {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
    packaged = {name for name in files if ".dist-info/" not in name}
    assert packaged == expected
    assert any(name.endswith("licenses/LICENSE") for name in files)


@pytest.mark.slow
def test_installed_commands_run_and_bring_their_own_modules(wheel, tmp_path):
    target = tmp_path / "site"
    _pip("install", "--no-deps", "--no-index", "--target", target, wheel)
    environment = os.environ | {"PYTHONPATH": str(target), "TF_CPP_MIN_LOG_LEVEL": "2"}

    def run(*command):
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
        )

    code = "; ".join(f"import {name}; print({name}.__file__)" for name in (*MODULES, "electra_tf2"))
    imported = run(sys.executable, "-c", code)
    assert imported.returncode == 0, imported.stderr
    assert all(line.startswith(str(target)) for line in imported.stdout.splitlines())
    for name in SCRIPTS:
        shown = run(str(target / "bin" / name), "--help")
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith(f"usage: {name}")


def _make_venv(tmp_path, pythons):
    """Runs the Makefile's rule for the virtual environment with only these commands on the path."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in pythons.items():
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755 | stat.S_IXUSR)
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    venv = tmp_path / "venv"
    return subprocess.run(
        [make, f"VENV={venv}", f"{venv}/bin/python"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": str(commands)},
    )


def test_makefile_says_that_no_python_fits(tmp_path):
    done = _make_venv(tmp_path, {"python3.13": "exit 127", "python3": "exit 1"})
    assert done.returncode != 0
    assert "error: no Python 3.11, 3.12 or 3.13 found." in done.stderr
    assert "what to do:" in done.stderr


def test_makefile_says_that_python_lacks_venv(tmp_path):
    without = 'case "$2" in *ensurepip*) exit 1;; esac'
    done = _make_venv(tmp_path, {"python3": without})
    assert done.returncode != 0
    assert "error: python3 can't make virtual environments." in done.stderr


def test_makefile_passes_over_a_python_that_does_not_run(tmp_path):
    fits = 'case "$2" in venv) echo "made $3";; esac'
    done = _make_venv(tmp_path, {"python3.13": "exit 127", "python3": "exit 1", "python3.12": fits})
    assert done.returncode == 0, done.stderr
    assert f"made {tmp_path / 'venv'}" in done.stdout
