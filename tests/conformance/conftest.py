"""Gives the argument `case` of tests marked `conformance(kind)` every case of that kind."""

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
    metafunc.parametrize("case", cases, ids=case_ids(cases))


def _directories(config) -> list[Path]:
    given = config.getoption("--conformance-dir")
    if given is None:
        return [CARRIED] + ([SHARED] if SHARED.is_dir() else [])
    if not Path(given).is_dir():
        raise pytest.UsageError(f"--conformance-dir: there is no folder {given}")
    return [Path(given)]
