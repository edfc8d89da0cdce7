"""What users may write, and what they are told when it is wrong."""

from functools import reduce

import pytest
from leaves import leaves, nested

from dpft.envs import DataError
from dpft.methods import METHODS, get_method
from dpft.sweeps.commands import parse_run
from dpft.sweeps.config import complete, config_model, load_config, parse_config, resolve


@pytest.mark.parametrize("value", [1_000_000, 1e6, "1e6", "1000000"])
def test_counts_may_be_written_as_people_do(value):
    assert parse_config({"env_steps": value}).env_steps == 1_000_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sede": 1}, "unknown field sede: did you mean seed"),
        ({"settings": {"learnin_rate": 1}}, "unknown field settings.learnin_rate: did you mean learning_rate"),
        ({"policy": {"hiden": [1]}}, "unknown field policy.hiden: did you mean hidden"),
        ({"seed": "three"}, "seed: input should be a valid integer, got 'three'"),
        ({"settings": {"clip": -1}}, "settings.clip: input should be greater than 0, got -1"),
        ({"denoising_steps": 101}, "denoising_steps: input should be less than or equal to 100, got 101"),
        ({"policy": {"hidden": [256, 128, 256]}}, "odd number of equal widths"),
        ({"method": "ncpdo"}, "unknown method 'ncpdo': did you mean ncdpo"),
        ({"task": "hoper-medium"}, "unknown task 'hoper-medium': did you mean hopper-medium"),
        ({"method": "dppo", "settings": {"warmup": 3}}, "unknown field settings.warmup"),
        ({"env_steps": 1.5}, "env_steps: input should be a valid integer"),
        ({"env_steps": True}, "env_steps: input should not be true or false, got True"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
        ({"base_seed": 2**32}, "base_seed: input should be less than 4294967296, got 4294967296; base_seed: .* 'same'"),
        ({"settings": {"clip": True}}, "settings.clip: input should not be true or false, got True"),
        (
            {"settings": {"critic_hidden": [64, 32, 16]}},
            "settings.critic_hidden: must be an odd number of equal widths",
        ),
        ({"settings": {"critic_hidden": [64, 64]}}, "settings.critic_hidden: must be an odd number of equal widths"),
        ({"settings": {"critic_hidden": []}}, "settings.critic_hidden: must be an odd number of equal widths"),
        ({"method": "dsrl-na", "settings": {"hidden": []}}, "settings.hidden: tuple should have at least 1 item"),
        ({"method": "dsrl-na", "settings": {"replay_size": 10}}, "settings: replay_size 10 never holds the 8000"),
        ({"policy": {"hidden": [0, 0, 0]}}, "policy.hidden.0: input should be greater than or equal to 1, got 0"),
        ({"policy": {"time_dim": 5}}, "policy.time_dim: input should be a multiple of 2, got 5"),
        (
            {"policy": {"std_bounds": [0.2, 0.01]}},
            r"policy.std_bounds: the first must be below the second, not \[0.2, 0",
        ),
        ({"policy": {"std_bounds": [0, 0.2]}}, "policy.std_bounds.0: input should be greater than 0, got 0"),
        ({"policy": {"std_init": 0.5}}, r"policy: std_init 0.5 is outside std_bounds, \[0.01, 0.2\]"),
        ({"settings": {"std_init": 0.6}}, r"settings: std_init 0.6 is outside std_bounds, \[0.05, 0.5\]"),
        (
            {"method": "dppo", "settings": {"log_prob_bounds": [2, -5]}},
            "settings.log_prob_bounds: the first must be below",
        ),
        ({"settings": {"advantage_quantiles": [0.9, 0.1]}}, "settings.advantage_quantiles: the first must be below"),
        (
            {"settings": {"advantage_quantiles": [5, 95]}},
            "settings.advantage_quantiles.0: input should be less than or",
        ),
        ({"settings": {"spacing": "leading"}}, "settings: spacing chooses DDIM's timesteps"),
        ({"settings": {"eta": 0.5}}, "settings: eta scales DDIM's noise alone"),
        ({"settings": {"learn_std": False, "entropy_coef": 0.1}}, "settings: entropy_coef: with learn_std false"),
        ({"method": "dppo", "settings": {"entropy_coef": 0.1}}, "settings: entropy_coef: the noise of DPPO's steps"),
        ({"settings": {"minibatches": 2001, "normalise_advantage": False}}, "settings: 2001 minibatches are more than"),
        ({"pretrain": {"steps": 9}}, "pretrain: 9 steps end before the average"),
        ([1, 2], "expected fields and values, got list"),
    ],
    ids=str,
)
def test_mistakes_are_named(data, words):
    with pytest.raises(DataError, match=words) as caught:
        parse_config(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_every_whole_number_may_be_written_as_people_do(method):
    """In YAML, where 4e0 is text, and on the command line."""
    flags = []
    for name, types, default in leaves(config_model(method)):
        if int not in types:
            continue
        value = 1 if default is None else default
        many = isinstance(value, tuple)
        text = [f"{number}e0" for number in (value if many else [value])]
        config = parse_config({"method": method} | nested(name, text if many else text[0]))
        assert reduce(getattr, name.split("."), config) == value, name
        flags += [f"--{name.replace('_', '-')}", *text] if default is not None else []
        for wrong in (1.5, float("nan"), True):
            with pytest.raises(DataError, match=f"{name}.*: input should"):
                parse_config({"method": method} | nested(name, [wrong] * 3 if many else wrong))
    assert parse_run(["--method", method, *flags], "train", "") == parse_config({"method": method})


@pytest.mark.parametrize("flag", ["--base-seed", "--settings.gradient-steps"])
def test_a_wrong_word_on_the_command_line_is_named_without_pythons_types(flag):
    with pytest.raises(DataError, match=rf"^Error parsing {flag}: no type matching .*INT.* from \['x'\]; ") as caught:
        parse_run(["--method", "ncdpo", flag, "x"], "train", "")
    assert "Annotated" not in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_every_number_is_finite(method):
    for name, types, default in leaves(config_model(method)):
        if float in types:
            for wrong in (float("nan"), float("inf"), float("-inf")):
                value = [wrong, 1.0] if isinstance(default, tuple) or "bounds" in name else wrong
                with pytest.raises(DataError, match=f"{name}.*: input should be a finite number"):
                    parse_config({"method": method} | nested(name, value))


@pytest.mark.parametrize("method", METHODS)
def test_settings_belong_to_the_method(method):
    config = resolve(parse_config({"method": method}))
    assert type(config.settings) is get_method(method).Config
    again = parse_config(config.model_dump(mode="json"))
    assert again == config, "a resolved config survives a round trip through plain data"
    assert resolve(again) == config


def test_resolution_depends_on_the_number_of_steps():
    few, many = (resolve(parse_config({"method": "dppo", "denoising_steps": k})) for k in (3, 20))
    assert (few.policy.prediction, many.policy.prediction) == ("x0", "epsilon")
    assert (few.settings.finetuned_steps, many.settings.finetuned_steps) == (3, 10)
    steering = [resolve(parse_config({"method": "dsrl-na", "denoising_steps": k})) for k in (3, 20)]
    assert [config.settings.sampler_steps for config in steering] == [3, 5]
    scratch = resolve(parse_config({"method": "dppo", "denoising_steps": 20, "from_scratch": True}))
    assert scratch.settings.finetuned_steps == 20
    assert resolve(parse_config(scratch.model_dump(mode="json"))) == scratch


def test_base_seed():
    assert resolve(parse_config({"seed": 4})).base_seed == 0
    assert resolve(parse_config({"seed": 4, "base_seed": "same"})).base_seed == 4


def test_a_steering_method_cannot_start_from_scratch():
    with pytest.raises(DataError, match="cannot start from a random one"):
        resolve(parse_config({"method": "dsrl-na", "from_scratch": True}))
    with pytest.raises(DataError, match="from_scratch and base exclude each other"):
        resolve(parse_config({"from_scratch": True, "base": "mine.safetensors"}))


def test_damaged_yaml(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: [1\n")
    with pytest.raises(DataError, match=r"cannot read .*c\.yaml"):
        load_config(path)


def test_every_field_says_what_it_is():
    """Each field of a run and of every method has a comment with unit and source, which --help shows."""
    import inspect

    for name in METHODS:
        model = config_model(name).model_fields["settings"].annotation
        for cls in model.__mro__:
            if "pydantic" in cls.__module__ or cls is object:
                continue
            lines = inspect.getsource(cls).splitlines()
            for field in vars(cls).get("__annotations__", {}):
                if field in ("model_config", "Config"):
                    continue
                line = next(text for text in lines if text.strip().startswith(f"{field}:"))
                inherited = any(field in getattr(base, "model_fields", {}) for base in cls.__mro__[1:])
                assert "#" in line or inherited, f"{cls.__name__}.{field} has no comment"


def test_files_are_written_down_under_whole_paths(tmp_path, monkeypatch):
    """The run means the same from any folder; names of experts and datasets stay as they are, whatever lies about."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.hdf5").touch()
    (tmp_path / "expert.safetensors").touch()
    for folder in ("mine/data", "hopper-medium/data", "dppo"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dppo/train.npz").touch()
    for source, expected in {
        "mine.hdf5": f"{tmp_path}/mine.hdf5",
        "mine": f"{tmp_path}/mine",
        "minari:mine": f"minari:{tmp_path}/mine",
        "dppo": f"{tmp_path}/dppo",
        "expert:expert.safetensors": f"expert:{tmp_path}/expert.safetensors",
        "expert:hopper-medium": "expert:hopper-medium",
        "d4rl:hopper-medium-v2": "d4rl:hopper-medium-v2",
        "minari:mujoco/hopper/medium-v0": "minari:mujoco/hopper/medium-v0",
        "": "expert:hopper-medium",
    }.items():
        assert complete(parse_config({"demos": {"source": source}})).demos.source == expected
    assert complete(parse_config({"base": "base.pt"})).base == f"{tmp_path}/base.pt"
    assert complete(parse_config({})).base is None
