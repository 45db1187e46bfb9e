"""Options of the test suite; pytest takes them only from here or from the paths it is given."""


def pytest_addoption(parser):
    parser.addoption(
        "--conformance-dir",
        default=None,
        metavar="DIR",
        help="Run the conformance cases found anywhere under DIR: every tokenization.json and "
        "case.json. Default: tests/conformance/cases, and ../shared/conformance where present.",
    )
