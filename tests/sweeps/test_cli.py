"""The console command: help, mistakes, exit codes, and what each verb leaves behind."""

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import full_disk
import pytest
import yaml
from rich.console import Console

from dpft.envs import TASKS
from dpft.methods import METHODS, get_method
from dpft.sweeps import progress
from dpft.sweeps import run as run_module
from dpft.sweeps.cli import VERBS, main
from dpft.sweeps.commands import BASE, PUBLISHED, parse_run
from dpft.sweeps.config import config_model
from dpft.sweeps.listing import grid_files

TINY_BASE = ["--denoising-steps", "2", "--policy.hidden", "8", "--pretrain.steps", "10", "--demos.steps", "500"]
TINY = [
    *(*TINY_BASE, "--env-steps", "400", "--eval-every", "200", "--eval-episodes", "2"),
    *("--settings.num-envs", "2", "--settings.decisions-per-update", "20", "--settings.critic-hidden", "8"),
]


def call(*arguments: str) -> int:
    """The exit code, however the command ends."""
    try:
        return main(list(arguments))
    except SystemExit as ended:  # argparse and tyro
        return int(ended.code or 0)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb, capsys):
    assert call(verb, "--help") == 0
    assert f"dpft {verb}" in capsys.readouterr().out.split("example", 1)[1]


@pytest.mark.parametrize("method", METHODS)
def test_help_of_train_shows_every_field_of_the_method(method, capsys):
    assert call("train", "--method", method, "--help") == 0
    out = capsys.readouterr().out
    for name in get_method(method).Config.model_fields:
        assert f"--settings.{name.replace('_', '-')}" in out
    for name in config_model(method).model_fields.keys() - {"settings", "policy", "pretrain", "demos"}:
        assert f"--{name.replace('_', '-')}" in out


def test_lists_have_a_line_each(capsys):
    assert call("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= set(METHODS)
    assert all(len(line.split()) > 3 for line in lines)
    assert call("tasks") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]] == list(TASKS)
    assert call("grids") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(grid_files())


@pytest.mark.parametrize("arguments", [["--help"], ["grids"], ["tasks"], ["methods"], ["sweep", "--help"]], ids=str)
def test_quick_commands_import_nothing_large(arguments):
    code = (
        "import sys\nfrom dpft.sweeps.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "print('LARGE', {'torch', 'pandas', 'matplotlib', 'minari', 'mujoco', 'gymnasium'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in ("LARGE set()", "LARGE {'torch'}" if arguments[0] == "sweep" else "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "dpft trian: unknown verb 'trian': did you mean train?"),
        (["train", "--seed", "1"], "dpft train: train needs --out DIR"),
        (["train", "--out", "{tmp}/x", "--method", "ncpdo"], "unknown method 'ncpdo': did you mean ncdpo?"),
        (["train", "--out", "{tmp}/x", "--task", "hoper-medium"], "did you mean hopper-medium?"),
        (["train", "--out", "{tmp}/x", "--task", "Pendulum-v1"], "has no demonstrations of its own: name some with"),
        (["train", "--out", "{tmp}/x", "--base", "{tmp}/no.safetensors"], "no.safetensors"),
        (["train", "--out", "{tmp}/x", "--config", "{tmp}/no.yaml"], "cannot read"),
        (["train", "--out", "{tmp}/x", "--config", "{tmp}/no.yaml"], "/no.yaml: No such file or directory\n"),
        (["train", "--out", "{tmp}/x", "--method"], "--method: expected one argument"),
        (["train", "--out", "", "--seed", "1"], "--out: expected a path, got ''"),
        (["train", "--out", "{tmp}/a-file"], "a-file (it is a file): choose another --out"),
        (["train", "--out", "{tmp}/a-file/x"], "a-file/x (Not a directory): choose another --out"),
        (["train", "--out", "/proc/x"], "cannot write into /proc/x"),
        (
            ["train", "--out", "{tmp}/a-file", "--device", "gpu"],
            "expected auto, cpu, cuda or cuda:N, got 'gpu': ",
        ),
        (["train", "--out", "{tmp}/x", "--device", "gpu"], "did you mean cuda?"),
        (["train", "--out", "{tmp}/x", "--device", "CPU"], "did you mean cpu?"),
        (["train", "--out", "{tmp}/x", "--device", "cuda:9"], "device cuda:9: this torch sees "),
        (["sweep", "quickstart", "--out", "{tmp}/a-file/x"], "a-file/x (Not a directory)"),
        (["eval", "{tmp}"], "is no run: it has no config.yaml"),
        (["eval", "{tmp}/nowhere"], "nowhere is not there: expected the folder of a run"),
        (["eval", "{tmp}/a-file"], "a-file is a file: expected the folder of a run"),
        (["eval", "{tmp}/sweep"], "sweep is no run but holds 5: name one of {tmp}/sweep/runs/0, {tmp}/sweep/runs/1, "),
        (["eval", "{tmp}/sweep/runs"], "is no run but holds 5"),
        (["eval", "{tmp}/sweep/runs/0", "--out", "{tmp}/folder.csv"], "it is a folder; expected the name of a file"),
        (["eval", "{tmp}/sweep/runs/0", "--out", "{tmp}/a-file/x.csv"], "cannot write into {tmp}/a-file"),
        (["eval", "{tmp}", "--episodes", "0"], "--episodes: input should be greater than or equal to 1, got '0'"),
        (["eval", "{tmp}", "--episodes", "1.5"], "--episodes: input should be a valid integer"),
        (["eval", "{tmp}", "--seed", "-1"], "--seed: input should be greater than or equal to 0, got '-1'"),
        (["eval", "{tmp}", "--ep", "3"], "unrecognized arguments: --ep 3"),
        (["eval", "a\nb\x1b[31m"], "a\\nb\\x1b[31m is not there"),
        (["video", "{tmp}/sweep"], "sweep is no run but holds 5"),
        (["publish", "{tmp}/sweep"], "no run of {tmp}/sweep has ended yet"),
        (["demos", "hopper-medium", "--steps", "inf"], "--steps: input should be a valid integer"),
        (["demos", "hopper-medium", "--steps", "1k"], "got '1k'"),
        (["demos", "hopper-medium", "--steps", "-5"], "--steps: input should be greater than or equal to 1"),
        (["demos", "hopper-medium", "--seed", "-1"], "--seed: input should be greater than or equal to 0"),
        (["train-expert", "hopper-medium", "--target", "nan", "--out", "{tmp}/x.safetensors"], "a finite number"),
        (["train-expert", "hopper-medium", "--target", "1", "--out", "{tmp}/x"], "a name that ends in .safetensors"),
        (
            ["train-expert", "hopper-medium", "--target", "1", "--out", "{tmp}/a-file/x.safetensors"],
            "cannot write into {tmp}/a-file",
        ),
        (["import-curve", "{tmp}/c.csv"], "the following arguments are required"),
        (["publish", "{tmp}"], "is no sweep: it has no runs.json"),
        (["publish", "{tmp}/nowhere"], "nowhere is not there: expected the folder of a sweep"),
        (["publish", "{tmp}/a-file"], "a-file is a file: expected the folder of a sweep"),
        (["train", "--out", "{tmp}/sweep", "--env-steps", "0"], "holds runs, so it cannot be one"),
        (["train", "--out", "{tmp}/sweep/runs", "--env-steps", "0"], "holds runs, so it cannot be one"),
        (["train", "--out", "{tmp}/x", "--threads", "1e9"], "threads: input should be less than or equal to 1024"),
        (["sweep", "quickstart", "--workers", "1e0.5"], "workers: input should be a valid integer"),
        (["demos", "hoper-medium"], "did you mean hopper-medium?"),
        (["demos", "hopper-medium", "--source", "{tmp}/no.hdf5"], "no.hdf5"),
        (["sweep", "quikstart"], "no grid 'quikstart'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_code_2(arguments, words, tmp_path, capsys):
    (tmp_path / "a-file").touch()
    for name in range(5):
        (tmp_path / f"sweep/runs/{name}").mkdir(parents=True)
        (tmp_path / f"sweep/runs/{name}/config.yaml").touch()
    (tmp_path / "sweep/grid.yaml").touch()
    (tmp_path / "folder.csv").mkdir()
    assert call(*(argument.format(tmp=tmp_path) for argument in arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"dpft {arguments[0]}: ")
    assert words.format(tmp=tmp_path) in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sede", "3"], ["--sede", "--seed"]),
        (["--settings.learnin-rate", "1"], ["--settings.learnin-rate", "--settings.learning-rate"]),
        (["--seed", "three"], ["--seed", "'three'"]),
        (["--env-steps", "1.5"], ["--env-steps", "'1.5'"]),
        (["--denoising-steps", "101"], ["denoising_steps: input should be less than or equal to 100, got 101"]),
        (["--settings.clip", "-1"], ["settings.clip: input should be greater than 0, got -1.0"]),
        (["--seed", "-1", "--eval-every", "0"], ["seed: input", "got -1; eval_every: input", "got 0"]),
    ],
    ids=str,
)
def test_a_misspelt_or_mistyped_flag_is_named(flags, words, tmp_path, capsys):
    assert call("train", "--out", str(tmp_path / "x"), *flags) == 2
    err = capsys.readouterr().err
    assert all(word in err for word in words)
    assert err.startswith("dpft train: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_flags_win_over_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    data = {"method": "dppo", "seed": 4, "env_steps": 5000, "settings": {"clip": 0.05, "epochs": 3}}
    path.write_text(yaml.safe_dump(data))
    flags = ["--config", str(path), "--env-steps", "1e6", "--settings.epochs", "7"]
    config = parse_run(flags, "train", "")
    assert (config.method, config.seed, config.env_steps) == ("dppo", 4, 1_000_000)
    assert (config.settings.clip, config.settings.epochs) == (0.05, 7)
    other = parse_run([*flags[:4], "--method", "ncdpo"], "train", "")
    assert (other.method, other.seed, other.env_steps) == ("ncdpo", 4, 1_000_000)
    assert other.settings == get_method("ncdpo").Config(), "settings of one method are not those of another"


def rows(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_train_then_evaluate(tmp_path, capsys):
    """The printed next steps work, and evaluating the stored weights gives the run's last evaluation again."""
    folder = tmp_path / "run"
    assert call("train", *TINY, "--out", str(folder), "--base", str(tmp_path / "not there")) == 2
    assert call("train", *TINY, "--out", str(folder)) == 0, "what could not start does not own its folder"
    assert capsys.readouterr().out.splitlines()[-1] == f"done: records in {folder}; next: dpft figures {folder}"
    assert call("train", *TINY, "--out", str(folder)) == 0
    assert capsys.readouterr().out.startswith(f"already done: records in {folder}")
    assert call("eval", str(folder), "--episodes", "2") == 0
    assert "mean return " in capsys.readouterr().out
    last = rows(folder / "episodes.csv")[-2:]
    again = rows(folder / "evaluation.csv")
    assert [{**row, "env_steps": ""} for row in last] == [{**row, "env_steps": ""} for row in again]
    assert call("eval", str(folder), "--episodes", "3", "--seed", "5", "--out", str(tmp_path / "more.csv")) == 0
    assert [row["seed"] for row in rows(tmp_path / "more.csv")] == ["5", "6", "7"]
    before = contents(folder)
    record = str(folder / "curve.csv")
    for wrong in (("--episodes", "0"), ("--episodes", "-3"), ("--seed", "-1"), ("--out", record), ("--out", "x.txt")):
        assert call("eval", str(folder), *wrong) == 2
    assert contents(folder) == before, "nothing is overwritten"


def test_evaluate_a_run_under_way(tmp_path, monkeypatch):
    """The newest checkpoint is evaluated while a run has no weights yet."""
    folder = tmp_path / "run"
    monkeypatch.setattr(run_module, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(run_module.Run, "finish", lambda self: (_ for _ in ()).throw(RuntimeError("killed here")))
    assert call("train", *TINY, "--out", str(folder)) == 1
    assert not (folder / "weights.safetensors").exists()
    assert call("eval", str(folder), "--episodes", "2") == 0
    last, again = rows(folder / "episodes.csv")[-2:], rows(folder / "evaluation.csv")
    assert [(row["seed"], row["return"]) for row in last] == [(row["seed"], row["return"]) for row in again]


def test_a_crash_leaves_its_traceback(tmp_path, capsys, monkeypatch):
    def fail(*arguments):
        raise MemoryError("as if")

    monkeypatch.setattr(run_module, "Run", fail)
    assert call("train", *TINY, "--out", str(tmp_path / "run")) == 1
    assert "MemoryError: as if" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "run/error.txt").read_text()
    assert not (tmp_path / "run/done.json").exists()


def test_divergence_has_a_code_of_its_own(tmp_path, capsys):
    wild = ["--settings.learning-rate", "1e30", "--settings.max-grad-norm", "None", "--settings.target-kl", "None"]
    assert call("train", *TINY, *wild, "--out", str(tmp_path / "run")) == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("failed: ")


def test_demonstrations_and_base_are_made_once(tmp_path, capsys):
    assert call("demos", "hopper-medium", "--steps", "5e2") == 0
    first = capsys.readouterr().out
    assert call("demos", "hopper-medium", "--steps", "500") == 0
    assert capsys.readouterr().out == first
    assert "-500-seed0-" in first, "where the data set is"
    assert "sha256 " in first
    found = []
    for _ in range(2):
        assert call("pretrain", *TINY_BASE) == 0
        printed = capsys.readouterr().out
        path = Path(printed.split("base policy in ")[1].splitlines()[0])
        found.append((path, path.stat().st_mtime_ns))
    assert found[0] == found[1]
    bases = set(path.parent.iterdir())
    following = shlex.split(printed.split("next, which finds it there: dpft ")[1])
    assert call(*following[:-1], str(tmp_path / "run"), *TINY) == 0
    assert set(path.parent.iterdir()) == bases, "it made no other base"


def test_pretrain_takes_what_shapes_a_base_alone(tmp_path, capsys):
    assert call("pretrain", "--help") == 0
    out = capsys.readouterr().out
    assert "see `dpft tasks`" in out, "comments are the help"
    assert not [name for name in ("--settings", "--env-steps", "--eval", "--seed ", "--from-scratch") if name in out]
    assert call("pretrain", "--env-steps", "5") == 2
    assert "nrecognized options: --env-steps" in capsys.readouterr().err
    (tmp_path / "run.yaml").write_text("env_steps: 5\nseed: 3\nbase_seed: same\nchunk: 2\n")
    config = parse_run(["--config", str(tmp_path / "run.yaml"), "--threads", "2"], "pretrain", "", BASE)
    assert (config.chunk, config.threads, config.seed, config.base_seed) == (2, 2, 3, "same")


def test_published_records_can_be_drawn(tmp_path, capsys):
    sweep = tmp_path / "mine"
    folder = sweep / "runs/hopper-medium_ncdpo_K2_seed0"
    assert call("train", *TINY, "--out", str(folder)) == 0
    (sweep / "grid.yaml").write_text("name: mine\ncaption: a caption of mine\n")
    (sweep / "runs/unfinished").mkdir()
    target = tmp_path / "results"
    assert call("publish", str(sweep), "--to", str(target)) == 0
    assert f"next: dpft figures {target}" in capsys.readouterr().out
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        "grid.yaml",
        *(
            f"runs/{folder.name}/{name}"
            for name in ("config.yaml", "curve.csv", "metrics.csv", "episodes.csv", "chains.npz", "done.json")
        ),
    }
    assert call("figures", str(target)) == 0
    assert list(target.glob("figures/*.png"))


def test_publishing_on_a_full_disk_leaves_what_was_published(tmp_path, capsys):
    run = tmp_path / "mine/runs/hopper-medium_ncdpo_K2_seed0"
    run.mkdir(parents=True)
    (tmp_path / "mine/grid.yaml").write_text("name: mine\n")
    for name in PUBLISHED:
        (run / name).write_text(f"{name} at first")
    (run / "done.json").write_text(json.dumps({"status": "done"}))
    damaged, none = run.with_name("damaged"), run.with_name("none")
    (damaged / "done.json").mkdir(parents=True)
    none.mkdir()
    (none / "done.json").touch()
    assert call("publish", str(tmp_path / "mine"), "--to", str(tmp_path / "there")) == 0
    said = capsys.readouterr()
    assert said.out.startswith("records of 1 runs in ")
    assert said.err == "".join(f"{run / 'done.json'}: damaged; that run is left out\n" for run in (damaged, none))
    (none / "done.json").unlink()
    (damaged / "done.json").rmdir()
    before = contents(tmp_path / "there")
    assert len(before) == 1 + len(PUBLISHED)
    for name in PUBLISHED[:-1]:
        (run / name).write_text(f"{name} afterwards")
    (run / "chains.npz").write_text("x" * 5000)
    done = full_disk.dpft(4000, "publish", str(tmp_path / "mine"), "--to", str(tmp_path / "there"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"dpft publish: cannot write to {tmp_path / 'there'} (File too large): free some")
    assert done.stderr.count("\n") == 1
    assert contents(tmp_path / "there") == before
    assert call("publish", str(tmp_path / "mine"), "--to", str(tmp_path / "there")) == 0
    assert contents(tmp_path / "there") == contents(tmp_path / "mine")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_user_wrote_is_no_markup_on_a_terminal(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr(progress, "console", terminal)
    with progress.pretraining("cloning [red]mine[/red] [/]", 3) as advance:
        advance(3)
    bar = progress.RunProgress("[bold]task ncdpo [/x]", 10, 0)
    bar.steps(5)
    bar.close()
    shown = terminal.file.getvalue()
    assert "cloning [red]mine[/red] [/]" in shown
    assert "[bold]task ncdpo [/x]" in shown


def test_a_pipe_that_takes_ascii_alone(tmp_path):
    def dpft(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "dpft", *arguments]
        return subprocess.run(
            command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, cwd=tmp_path
        )

    shown = dpft("train", "--help")
    assert (shown.returncode, shown.stderr) == (0, b"")
    refused = dpft("train", "--out", "x", "--env-steps", "x")
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        b"dpft train: Error parsing --env-steps: input should be a valid integer, got 'x'; "
    )
