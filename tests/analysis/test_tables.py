"""What the tables say, in each language that they are written in."""

import csv
import io
import re
import shutil

import numpy as np
import pytest
import yaml
from run_folders import write_run

from dpft.analysis.cli import figures
from dpft.analysis.load import load
from dpft.analysis.tables import ablation_table, results_csv, results_latex, results_table


def test_the_table(sweep):
    table = results_table(load([sweep])).splitlines()
    rows = {
        tuple(cell.strip() for cell in row.split("|")[1:3]): [c.strip() for c in row.split("|")[3:-1]]
        for row in table[2:]
    }
    assert len(rows) == 8
    # final returns 1400, 1450, 1500: 1450 +- 4.303 * 50 / sqrt(3); areas 350000, 357555, 365120
    assert rows["hopper-medium", "NCDPO"] == [
        "5", "1450 [1326, 1574]", "450 [326, 574]", "1188", "1000", "14.5 [13.3, 15.7]", "3", "301", "0.5", "0 of 3",
    ]  # fmt: skip
    assert list(rows)[:4] == [("hopper-medium", name) for name in ("NCDPO", "DPPO", "DSRL-NA", "Gaussian PPO")]
    # two seeds: Student's t would reach 12.7 standard errors to each side
    assert rows["hopper-medium", "DPPO"][1:3] == ["1435 (1410, 1460)", "425 (400, 450)"]
    assert rows["hopper-medium", "DPPO"][-4:] == ["2", "300", "0.5", "1 of 3"]
    assert rows["hopper-medium", "Gaussian PPO"][0] == "-"
    assert "D4RL-scaled, v5 dynamics" in table[0]


def test_an_experiment_that_only_failed_is_listed(tmp_path):
    write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    write_run(tmp_path, [(0, 1.0)], method="dppo", status="failed", reason="loss is inf")
    records = load([tmp_path])
    assert results_table(records).splitlines()[-1].endswith("| 1 of 1 |")


def test_a_best_value_needs_five_seeds_and_a_difference(tmp_path):
    for method, top in (("ncdpo", 2000.0), ("dppo", 1500.0)):
        for seed in range(5):
            write_run(tmp_path, [(0, 1000.0), (100, top + 10 * seed)], method=method, seed=seed)
    assert results_table(load([tmp_path])).count("**") == 2
    assert r"\textbf{2020 [" in results_latex(load([tmp_path]))
    shutil.rmtree(tmp_path / "runs" / "hopper-medium_dppo_K5_seed4")
    assert "**" not in results_table(load([tmp_path]))
    write_run(tmp_path, [(0, 1000.0), (100, 9000.0)], method="dppo", seed=4)
    assert "**" not in results_table(load([tmp_path])), "one outlier makes the interval of the difference wide"


def test_the_csv_holds_what_the_table_rounds(sweep):
    rows = list(csv.DictReader(io.StringIO(results_csv(load([sweep])))))
    ours = next(row for row in rows if (row["task"], row["method"]) == ("hopper-medium", "NCDPO"))
    assert float(ours["final_mean"]) == 1450.0
    assert float(ours["final_high"]) - 1450.0 == pytest.approx(4.302653 * 50 / 3**0.5, rel=1e-6)
    assert (ours["seeds"], ours["failed"], ours["runs"]) == ("3", "0", "3")


def test_latex_is_escaped_and_balanced(sweep):
    text = results_latex(load([sweep]))
    assert text.count("{") == text.count("}")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 8
    assert len({line.count("&") for line in body}) == 1


def test_an_ablation_compares_runs_of_the_same_seed(tmp_path):
    """Seeds differ far more than values do, yet paired the difference is plain; a seed without a partner is in none."""
    for seed in range(4):
        write_run(tmp_path, [(0, 0.0), (100, 100.0 * seed)], seed=seed, settings={"clip": 0.01})
        write_run(
            tmp_path, [(0, 0.0), (100, 100.0 * seed + 15 + seed % 2)], seed=seed + (seed == 3), settings={"clip": 0.1}
        )
    _, _, first, second = ablation_table(load([tmp_path], "clip"), "clip").splitlines()
    assert first == "| hopper-medium | NCDPO | 5 | 0.01 | 4 | 150 [-55, 355] | - | 75 [-28, 178] | - |"
    change = 100 * np.array([15.0, 16, 15]) / 150
    half = 2.919986 * change.std(ddof=1) / np.sqrt(3)
    said = f"{change.mean():.1f} [{change.mean() - half:.1f}, {change.mean() + half:.1f}]"
    assert second.startswith("| hopper-medium | NCDPO | 5 | 0.1 | 4 |")
    assert second.count(f"| {said} |") == 2
    assert figures([str(tmp_path), "--ablate", "clip"]) == 0
    assert said in (tmp_path / "figures" / "ablation_clip.md").read_text()


NASTY = {
    "pipe": "a | b",
    "line": "a\u2028b\nc",
    "latex": r"\input{/etc/passwd} $x_1$ {y} ^~ 5% & #",
    "formula": "=cmd|' /C calc'!A0",
    "markup": "<script>alert(1)</script> [x](http://example.invalid) `code` *b* _i_",
    "dollar": "$\\frac{1}{",
}


@pytest.mark.parametrize("method", [*NASTY.values(), "+1", "-1", "@SUM(A1)", "\t=1", "\\", "_mine", "1. one", "# head"])
def test_what_people_wrote_is_text_in_every_table(tmp_path, method):
    """One row with as many cells as the head has, in each language; nothing in it is a command or a formula."""
    for seed in range(2):
        write_run(tmp_path, [(0, 1.0), (100, 2.0)], method=method, seed=seed, settings={method: seed})
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"caption": method}))
    assert figures([str(tmp_path), "--format", "svg"]) == 0
    folder = tmp_path / "figures"

    head, rule, *rows = (folder / "summary.md").read_text().split("\n\n")[1].splitlines()
    cells = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in (head, rule, *rows)}
    assert cells == {len(head.split("|")) - 1}
    assert len(rows) == 2
    assert not re.search(r"(?<!\\)[$`]|<(?!br)|(?<!\\)\[x", (folder / "summary.md").read_text())

    body = (folder / "results.tex").read_text().split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 2
    commands = {r"\textbackslash", r"\textasciitilde", r"\textasciicircum", r"\textless", r"\textgreater", r"\textbar"}
    for line in body:
        assert line.endswith(r" \\")
        assert set(re.findall(r"\\[a-z]+", line)) <= commands
        assert len(re.findall(r"(?<!\\)&", line)) == 8
        assert not re.search(r"(?<!\\)[$#%]", line)

    first, *values = csv.reader(io.StringIO((folder / "results.csv").read_text()))
    assert [len(row) for row in values] == [len(first)] * 2
    assert not any(row[1].startswith(("=", "+", "-", "@", "\t", "\r")) for row in values)
