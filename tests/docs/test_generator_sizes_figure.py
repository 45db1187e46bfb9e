"""The sweep in docs/results.md: its table is that of the figures, and its collapses are seen."""

from pathlib import Path

from electra_tf2.sweep.size_results import read_sweep
from electra_tf2.sweep.table import table

DOCS = Path(__file__).parents[2] / "docs"


def test_table_of_the_page_is_that_of_the_figures():
    sweep = read_sweep(str(DOCS / "figures" / "generator_sizes.json"))
    rows = [line for line in table(sweep).splitlines() if line.startswith("| ")]
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    assert len(rows) == 2 + 5
    assert "\n".join(rows) in page


def test_real_figures_of_discriminators_that_guess():
    sweep = read_sweep(str(DOCS / "figures" / "generator_sizes.json"))
    assert all(sweep.reasons()) and not sweep.had_time
    assert sweep.collapsed() == []
    assert "No discriminator has learned anything yet" in table(sweep)
