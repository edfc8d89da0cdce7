"""What is committed in results/ is what its own records give."""

from pathlib import Path

import pytest

from dpft.analysis.load import load
from dpft.analysis.tables import results_csv, results_table

RESULTS = Path(__file__).parents[2] / "results"
SWEEPS = sorted(path.parent for path in RESULTS.glob("*/runs"))


def test_there_are_records():
    assert {"hopper", "tuning", "bases"} <= {sweep.name for sweep in SWEEPS}


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_tables_are_those_of_the_records(sweep):
    """Every figure comes from the same load; drawing them all again takes `make figures`."""
    records = load([sweep])
    assert results_table(records).strip() in (sweep / "figures" / "summary.md").read_text()
    assert results_csv(records) == (sweep / "figures" / "results.csv").read_text()
    assert (sweep / "README.md").exists()
    assert (sweep / "grid.yaml").exists()


@pytest.mark.parametrize("path", sorted(RESULTS.glob("**/config.yaml")), ids=lambda path: path.parent.name)
def test_records_say_how_they_were_made(path):
    text = path.read_text()
    for fact in ("command: dpft", "git_commit:", "torch:", "cpu:"):
        assert fact in text
    assert "/tmp" not in text
