"""Records are read completely, and what is wrong with a damaged one is said in one line."""

import json
from pathlib import Path

import pytest
import yaml
from run_folders import HEADER, write_run

from dpft.analysis.load import load, run_folders
from dpft.analysis.reading import RecordError


def test_a_sweep_is_read_completely(sweep):
    records = load([sweep])
    assert records.warnings == []
    assert records.captions == ["short demonstration"]
    assert len(records.runs) == 24
    assert records.runs["status"].value_counts().to_dict() == {"done": 23, "failed": 1}
    assert set(records.runs["sweep"]) == {"demo"}
    failed = records.runs.query("status == 'failed'").iloc[0]
    assert (failed["method"], failed["seed"], failed["reason"]) == ("dppo", 2, "loss/policy is nan at step 201")
    one = records.curves.query("task == 'walker2d-medium' and method == 'dsrl-na' and seed == 1")
    assert one["env_steps"].tolist() == [0, 101, 201, 301]
    assert one["return_mean"].tolist() == [1900.0, 2120.0, 2360.0, 2800.0]
    assert one["return_normalised"].tolist() == [19.0, 21.2, 23.6, 28.0]
    assert one["training_return"].isna().all()
    assert set(one["status"]) == {"done"}


def test_a_policy_without_a_chain_has_no_k(sweep):
    runs = load([sweep]).runs
    assert runs.query("method == 'gaussian-ppo'")["denoising_steps"].isna().all()
    assert (runs.query("method != 'gaussian-ppo'")["denoising_steps"] == 5).all()


def test_one_run_folder_is_enough(sweep):
    folder = run_folders(sweep)[0]
    records = load([folder])
    assert len(records.runs) == 1
    assert records.runs["sweep"].item() == "demo"
    assert records.captions == ["short demonstration"]


def test_a_run_on_its_own_is_its_own_sweep(tmp_path):
    folder = write_run(tmp_path, [(0, 1.0)])
    assert load([folder]).runs["sweep"].item() == folder.name


def test_a_folder_of_single_runs(tmp_path):
    write_run(tmp_path, [(0, 1.0)])
    (tmp_path / "runs" / "notes").mkdir()
    assert len(load([tmp_path / "runs"]).runs) == 1


def test_status_of_a_run_going_on_and_of_a_crashed_one(tmp_path):
    going_on = write_run(tmp_path, [(0, 1.0)], seed=0, status="unfinished")
    crashed = write_run(tmp_path, [(0, 1.0)], seed=1, status="unfinished")
    (crashed / "error.txt").write_text("Traceback (most recent call last):\n  …\nMemoryError: too much\n\n")
    runs = load([tmp_path]).runs.set_index("run")
    assert tuple(runs.loc[str(going_on), ["status", "reason"]]) == ("unfinished", "")
    assert tuple(runs.loc[str(crashed), ["status", "reason"]]) == ("failed", "crashed: MemoryError: too much")


def damage(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


ROW = "0,1.0,1.0,5.0,,20,"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.yaml", None, "config.yaml: missing; run left out"),
        ("config.yaml", "", "config.yaml: empty"),
        ("config.yaml", "task: [hopper", "config.yaml: unreadable"),
        ("config.yaml", "- 1\n- 2\n", "config.yaml: not a list of fields and values"),
        ("config.yaml", "task: hopper-medium\nmethod: ncdpo\n", "config.yaml: denoising_steps, seed, base_seed"),
        ("curve.csv", None, "curve.csv: missing; run has no curve"),
        ("curve.csv", "", "curve.csv: empty"),
        ("curve.csv", "steps,return\n1,2\n", "curve.csv: not the expected columns"),
        ("curve.csv", HEADER + "\n", "curve.csv: no evaluation in it yet"),
        ("curve.csv", f"{HEADER}\n{ROW}\n100,2.0,2.0,6", "curve.csv, line 3:"),
        ("curve.csv", f"{HEADER}\n{ROW}\n100,2.0,2.0,oops,,20,\n", "curve.csv, line 3: could not convert"),
        ("curve.csv", f"{HEADER}\n{ROW}\n100,2.0,2.0,nan,,20,\n", "curve.csv, line 3: return_mean is 'nan'"),
        ("curve.csv", f"{HEADER}\n{ROW}\n{ROW}\n", "curve.csv, line 3: env_steps do not grow"),
        ("curve.csv", f"{HEADER}\n100,2.0,2.0,6.0,,20,\n", "curve.csv: no row at 0 env_steps"),
        ("done.json", '{"status": "do', "done.json: damaged"),
        ("done.json", '{"status": "excellent"}', "done.json: damaged"),
        ("done.json", "[]", "done.json: damaged"),
    ],
)
def test_a_damaged_record_gets_one_line_and_the_rest_is_read(sweep, name, text, says):
    folder = run_folders(sweep)[0]
    damage(folder / name, text)
    records = load([sweep])
    warning, *more = records.warnings
    assert warning.startswith(str(folder))
    assert says in warning
    assert "\n" not in warning
    if name == "curve.csv":  # a curve without its end has no final return
        assert "does not reach the run's end at step 300; not in the means" in more.pop()
        assert records.runs.set_index("run").loc[str(folder), "status"] == "unfinished"
    assert more == []
    others = records.curves[records.curves["run"] != str(folder)]
    assert len(others) == 23 * 4 - 2  # the failed run has two rows only


def test_rows_before_the_damaged_one_are_kept(sweep):
    folder = run_folders(sweep)[0]
    (folder / "curve.csv").write_text(f"{HEADER}\n{ROW}\n100,2.0,2.0,6.0,,20,\n200,3.0,3.0,")
    curve = load([folder]).curves
    assert curve["return_mean"].tolist() == [5.0, 6.0]


def test_nothing_to_draw_is_one_line(tmp_path):
    with pytest.raises(RecordError, match="there is no such folder"):
        load([tmp_path / "nothing"])
    with pytest.raises(RecordError, match="no runs in it"):
        load([tmp_path])
    folder = write_run(tmp_path, [(0, 1.0)])
    (folder / "curve.csv").unlink()
    with pytest.raises(RecordError, match=r"nothing to draw in .*curve\.csv: missing") as error:
        load([tmp_path])
    assert "\n" not in str(error.value)


def test_runs_with_other_settings_are_not_taken_for_seeds(tmp_path):
    for seed in range(2):
        for gamma in (0.9, 0.99):
            write_run(tmp_path, [(0, 1.0)], seed=seed, settings={"gamma": gamma}, device=f"cuda:{seed}")
    write_run(tmp_path, [(0, 1.0)], method="dppo")
    found = {e["method"] + e["variant"]: len(own.runs) for e, own in load([tmp_path]).experiments()}
    assert found == {"ncdpogamma=0.9": 2, "ncdpogamma=0.99": 2, "dppo": 1}


def test_the_same_run_twice_is_counted_once(tmp_path):
    for name in ("mine", "published"):
        for seed in range(2):
            write_run(tmp_path / name, [(0, 1.0), (10, 2.0)], seed=seed)
    records = load([tmp_path / "mine", tmp_path / "published"])
    assert len(records.runs) == 2
    assert len(records.curves) == 4
    assert len(records.warnings) == 2
    assert all("the same config and seed" in warning for warning in records.warnings)


def test_runs_on_several_bases_are_all_kept(tmp_path):
    for base_seed in range(3):
        write_run(tmp_path, [(0, 1.0)], base_seed=base_seed)
    records = load([tmp_path])
    assert records.warnings == []
    assert records.runs["base_seed"].tolist() == [0, 1, 2]


def test_records_are_data_and_not_programs(tmp_path):
    folder = write_run(tmp_path, [(0, 1.0)])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    text = yaml.safe_dump(config) + "danger: !!python/object/apply:os.getcwd []\n"
    (folder / "config.yaml").write_text(text)
    with pytest.raises(RecordError, match="could not determine a constructor"):
        load([tmp_path])


def test_a_reason_may_be_missing(tmp_path):
    folder = write_run(tmp_path, [(0, 1.0)])
    (folder / "done.json").write_text(json.dumps({"status": "failed", "env_steps": 0}))
    assert load([tmp_path]).runs["reason"].item() == ""
