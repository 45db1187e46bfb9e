"""Gives the argument `case` of tests marked `conformance(kind)` every case of that kind.

Tests that also have the argument `jit_compile` run each case by TensorFlow's kernels, and compiled
by XLA as on a GPU: every case with `--conformance-dir`, otherwise one, since compiling is slow.
"""

from pathlib import Path

import pytest

from tests.conformance.cases import case_ids, find_cases

CARRIED = Path(__file__).parent / "cases"
# All the cases, where the repository lies in a workplace that has them.
SHARED = Path(__file__).parents[3] / "shared" / "conformance"


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "conformance(kind): run with every conformance case of that kind as `case`"
    )


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("conformance")
    if marker is None or "case" not in metafunc.fixturenames:
        return
    try:
        cases = find_cases(_directories(metafunc.config), *marker.args)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    ids = case_ids(cases)
    if "jit_compile" not in metafunc.fixturenames:
        metafunc.parametrize("case", cases, ids=ids)
        return
    plain = [
        pytest.param(case, False, id=f"{name}-plain") for case, name in zip(cases, ids, strict=True)
    ]
    compiled = [
        pytest.param(case, True, id=f"{name}-compiled", marks=pytest.mark.slow)
        for case, name in zip(cases, ids, strict=True)
    ]
    if not metafunc.config.getoption("--conformance-dir"):
        compiled = compiled[:1]
    metafunc.parametrize(("case", "jit_compile"), plain + compiled)


def _directories(config) -> list[Path]:
    given = config.getoption("--conformance-dir")
    if given is None:
        return [CARRIED] + ([SHARED] if SHARED.is_dir() else [])
    if not Path(given).is_dir():
        raise pytest.UsageError(f"--conformance-dir: there is no folder {given}")
    return [Path(given)]
