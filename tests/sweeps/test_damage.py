"""Damaged state files, and folders that are taken away: one run's trouble, never the sweep's."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from same import same_records
from test_launch import small, write_grid

from dpft.sweeps import engine_local
from dpft.sweeps.cli import main
from dpft.sweeps.engine_local import supervise
from dpft.sweeps.launch import Sweep
from dpft.sweeps.run_state import states


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished sweep of two small runs, and its grid beside it."""
    folder = tmp_path_factory.mktemp("finished")
    grid = write_grid(folder / "small.yaml", seed=[0, 1])
    assert main(["sweep", str(grid), "--out", str(folder / "out"), "--engine", "inline"]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Sweep:
    return Sweep.open(shutil.copytree(finished / "out", tmp_path / "out"))


VERBS = ("status", "resume", "cancel")


def one_line(capsys, verb: str) -> str:
    err = capsys.readouterr().err
    assert err.startswith(f"dpft {verb}: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("content", ["", '{"a": 1}', '{"status": "failed"}', "[" * 100_000, "\0"])
def test_a_damaged_done_json_is_a_lost_run_that_is_made_again(content, copy, finished, capsys):
    name, other = copy.runs
    (copy.run(name) / "done.json").write_text(content)
    stamp = (copy.run(other) / "done.json").stat().st_mtime_ns
    assert main(["status", str(copy.folder)]) == 4
    assert f"lost     {name}: done.json: damaged\n" in capsys.readouterr().out
    assert main(["sweep", str(finished / "small.yaml"), "--out", str(copy.folder), "--dry-run"]) == 0
    assert "2 runs" in capsys.readouterr().out
    assert main(["resume", str(copy.folder)]) == 0
    assert "1 runs to do, 1 done before" in capsys.readouterr().out
    same_records(copy.run(name), finished / "out/runs" / name)
    assert (copy.run(other) / "done.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("content", ["", "[]", '{"id": "1", "engine": "local"}', '{"id": 1'])
def test_a_damaged_manifest_entry_is_named_and_passed_over(content, copy, capsys):
    (entry,) = (copy.folder / "manifest").glob("*.json")
    entry.write_text(content)
    for verb in VERBS:
        assert main([verb, str(copy.folder)]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"{entry.parent}: {entry.name}: damaged, passed over\n", "once"
    assert captured.out.count("2 runs: 2 done") == 2


def test_an_entry_of_a_newer_version_is_read(copy):
    (entry,) = (copy.folder / "manifest").glob("*.json")
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"newer": 1}))
    assert len(copy.submissions()) == 1


@pytest.mark.parametrize("content", ["", "[1]", "{}}", '{"a": 1}', '{"a": {"env_steps": "many"}}'])
def test_a_damaged_list_of_runs_is_one_line_and_is_written_anew(content, copy, finished, capsys):
    (copy.folder / "runs.json").write_text(content)
    for verb in VERBS:
        assert main([verb, str(copy.folder)]) == 2
        assert f"dpft sweep {copy.folder / 'grid.yaml'} --out {copy.folder}" in one_line(capsys, verb)
    assert main(["sweep", str(finished / "small.yaml"), "--out", str(copy.folder)]) == 0
    assert "0 runs to do, 2 done before" in capsys.readouterr().out
    assert main(["status", str(copy.folder)]) == 0


@pytest.mark.parametrize("engine", ["local", "inline"])
@pytest.mark.parametrize("way", ["a file", "a link to nowhere"])
def test_a_run_folder_that_is_none_fails_alone(way, engine, copy, capsys):
    name, other = copy.runs
    shutil.rmtree(copy.run(name))
    if engine == "inline":  # a process of its own would take seconds
        (copy.run(other) / "done.json").unlink()
    if way == "a file":
        copy.run(name).touch()
    else:
        copy.run(name).symlink_to("nowhere")
    assert main(["resume", str(copy.folder), "--engine", engine]) == 1
    out = capsys.readouterr().out
    assert f"failed   {name}: {copy.run(name)} is a file or a link to nowhere: move it away\n" in out
    assert states(copy)[other].state == "done"


def test_a_folder_that_is_deleted_under_its_run_fails_alone(tmp_path, monkeypatch):
    """With real processes: the second goes on and the third begins."""
    made = small(tmp_path, 3)
    first, *others = made.runs

    def start(sweep: Sweep, name: str, gpu: str | None) -> subprocess.Popen:
        made.run(name).mkdir()
        words = "import os, sys, time; time.sleep(0.3); open(os.path.join(sys.argv[1], 'made'), 'w')"
        process = subprocess.Popen([sys.executable, "-S", "-c", words, made.run(name)], stderr=subprocess.DEVNULL)
        if name == first:
            shutil.rmtree(made.run(name))
        return process

    monkeypatch.setattr(engine_local, "start", start)
    ended: dict[str, tuple[int, str]] = {}
    supervise(made, list(made.runs), 2, lambda name, code, reason: ended.update({name: (code, reason)}))
    assert ended == {
        first: (1, f"{made.run(first)} was deleted while the run was under way"),
        **dict.fromkeys(others, (0, "")),
    }
    assert states(made)[first].state == "failed"
    assert states(made)[first].reason == ended[first][1]


@pytest.mark.parametrize("content", ["", "[]", "env_steps: 300", "a: !!int", "\0", "provenance: {hardware: 1}"])
def test_a_damaged_config_is_one_line(content, copy, capsys):
    """Of a run that has not ended; nobody can say whether its records are those that are asked for."""
    name, _ = copy.runs
    (copy.run(name) / "done.json").unlink()
    (copy.run(name) / "config.yaml").write_text(content)
    assert main(["resume", str(copy.folder)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("dpft train: ")
    assert str(copy.run(name) / "config.yaml") in captured.err
    assert captured.err.count("\n") == 1
    assert f"failed   {name}" in captured.out
    if content in ("", "[]"):
        assert main(["eval", str(copy.run(name))]) == 2
        assert str(copy.run(name) / "config.yaml") in one_line(capsys, "eval")


def test_another_machine_is_allowed_for_a_whole_sweep(copy, capsys):
    """The flag that a run's refusal names is one of resume."""
    for name in copy.runs:
        (copy.run(name) / "done.json").unlink()
        config = yaml.safe_load((copy.run(name) / "config.yaml").read_text())
        config["provenance"]["hardware"]["cpu"] = "Another CPU"
        (copy.run(name) / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["resume", str(copy.folder)]) == 1
    assert "dpft resume take --allow-hardware-change" in capsys.readouterr().err
    assert main(["resume", str(copy.folder), "--allow-hardware-change"]) == 0
    for name in copy.runs:
        assert "hardware_changes" in (copy.run(name) / "config.yaml").read_text()


@pytest.fixture
def read_only(copy):
    """The sweep on a disk that takes nothing."""
    if subprocess.run(["mount", "--bind", copy.folder, copy.folder], capture_output=True).returncode:
        pytest.skip("mounting needs rights")
    subprocess.run(["mount", "-o", "remount,bind,ro", copy.folder], check=True)
    yield copy
    subprocess.run(["umount", copy.folder], check=True)


def test_a_read_only_disk_ends_it_all_in_one_line(read_only, finished, capsys):
    folder = str(read_only.folder)
    name, _ = read_only.runs
    assert main(["status", folder]) == 0
    capsys.readouterr()
    for arguments in (
        ["resume", folder, "--engine", "local"],
        ["sweep", str(finished / "small.yaml"), "--out", folder],
        ["train", "--config", str(read_only.run(name) / "request.yaml"), "--out", str(read_only.run(name))],
    ):
        assert main(arguments) == 2
        assert "Read-only file system" in one_line(capsys, arguments[0])


def test_a_full_disk_ends_the_launcher(tmp_path, monkeypatch, capsys):
    """Of one run's folder it is everybody's."""
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1])

    def start(sweep: Sweep, name: str, gpu: str | None) -> subprocess.Popen:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(sweep.run(name)))

    monkeypatch.setattr(engine_local, "start", start)
    assert main(["sweep", str(grid), "--out", str(tmp_path / "out")]) == 2
    assert "No space left on device" in one_line(capsys, "sweep")


STATE_FILES = (
    "runs.json",
    "grid.yaml",
    "manifest/{entry}",
    "manifest/{entry}.claim",
    "manifest",
    "runs",
    "{run}",
    *(f"{{run}}/{name}" for name in ("done.json", "config.yaml", "request.yaml", "attempts.json", "error.txt")),
    *(f"{{run}}/{name}" for name in ("run.claim", "run.log", "curve.csv", "metrics.csv")),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
CONTENTS = (
    st.binary(max_size=40)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"", b"[" * 100_000, b"- " * 5000, b"a: !!int\n", b"a: 2026-13-45\n", b"!!bool x"])
)


@st.composite
def damages(draw):
    """A state file and what happens to it, given its content before."""
    file = draw(st.sampled_from(STATE_FILES))
    how = draw(st.sampled_from(["written", "cut", "types", "folder", "link", "deleted"]))
    if how == "written":
        return file, how, draw(CONTENTS)
    if how == "cut":
        return file, how, draw(st.floats(0, 1))
    return file, how, (draw(st.integers(0, 20)), draw(JSON)) if how == "types" else None


def other_types(value, at: int, new):
    """A JSON value with its at-th part (keys aside) replaced."""
    count = -1

    def walk(part):
        nonlocal count
        count += 1
        if count == at:
            return new
        if isinstance(part, dict):
            return {key: walk(inner) for key, inner in part.items()}
        return [walk(inner) for inner in part] if isinstance(part, list) else part

    return walk(value)


def damage(path: Path, how: str, what) -> None:
    before = path.read_bytes() if path.is_file() else b"{}"
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
    if not path.parent.is_dir() or how == "deleted":
        return
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("nowhere")
    elif how == "types":
        try:
            path.write_text(json.dumps(other_types(json.loads(before), *what)))
        except ValueError:
            path.write_text(json.dumps(what[1]))
    else:
        path.write_bytes(before[: int(len(before) * what)] if how == "cut" else what)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(damages(), min_size=1, max_size=3))
def test_no_damage_of_state_files_is_a_traceback(finished, capsys, some):
    """Every verb of a sweep says something in lines and ends with one of its exit codes; what was healthy stays so."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "out"
        shutil.copytree(finished / "out", folder)
        first, second = sorted(Sweep.open(folder).runs)
        (entry,) = (file.stem for file in (folder / "manifest").glob("*.json"))
        for file, how, what in some:
            damage(
                folder / file.format(entry=f"{entry}.json", run=f"runs/{first}").replace(".json.claim", ".claim"),
                how,
                what,
            )
        grid = str(finished / "small.yaml")
        for arguments, codes in (
            (["status", str(folder)], (0, 1, 2, 3, 4)),
            (["status", str(folder), "--json"], (0, 1, 2, 3, 4)),
            (["sweep", grid, "--out", str(folder), "--dry-run"], (0, 2)),
            (["cancel", str(folder)], (0, 2)),
            (["publish", str(folder), "--to", str(folder.with_name("p"))], (0, 2)),
            (["resume", str(folder), "--engine", "inline"], (0, 1, 2, 4)),
            (["sweep", grid, "--out", str(folder), "--engine", "inline"], (0, 1, 2, 4)),
        ):
            code = main(arguments)
            captured = capsys.readouterr()
            assert code in codes, (arguments, captured)
            assert "Traceback" not in captured.err + captured.out
            if code == 2:
                assert captured.err.strip().splitlines()[-1].startswith(f"dpft {arguments[0]}: ")
        if (folder / "runs").is_dir() and Path(folder / "runs" / second / "done.json").exists():
            assert read_status(folder / "runs" / second) == "done"


def read_status(run: Path) -> str:
    return json.loads((run / "done.json").read_text())["status"]
