"""What users may write, and what they are told when it is wrong."""

import pytest

from dpft.envs import DataError
from dpft.methods import METHODS, get_method
from dpft.sweeps.config import config_model, load_config, parse_config, resolve


@pytest.mark.parametrize("value", [1_000_000, 1e6, "1e6", "1000000"])
def test_counts_may_be_written_as_people_do(value):
    assert parse_config({"env_steps": value}).env_steps == 1_000_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sede": 1}, "unknown field sede: did you mean seed"),
        ({"settings": {"learnin_rate": 1}}, "unknown field settings.learnin_rate: did you mean learning_rate"),
        ({"policy": {"hiden": [1]}}, "unknown field policy.hiden: did you mean hidden"),
        ({"seed": "three"}, "seed: input should be a valid integer, .* got 'three'"),
        ({"settings": {"clip": -1}}, "settings.clip: input should be greater than 0, got -1"),
        ({"denoising_steps": 101}, "denoising_steps: input should be less than or equal to 100, got 101"),
        ({"policy": {"hidden": [256, 128, 256]}}, "odd number of equal widths"),
        ({"method": "ncpdo"}, "unknown method 'ncpdo': did you mean ncdpo"),
        ({"task": "hoper-medium"}, "unknown task 'hoper-medium': did you mean hopper-medium"),
        ({"method": "dppo", "settings": {"warmup": 3}}, "unknown field settings.warmup"),
        ({"env_steps": 1.5}, "env_steps: input should be a valid integer"),
        ([1, 2], "expected fields and values, got list"),
    ],
    ids=str,
)
def test_mistakes_are_named(data, words):
    with pytest.raises(DataError, match=words) as caught:
        parse_config(data)
    assert "\n" not in str(caught.value)


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


def test_every_field_is_read_by_the_code():
    """A field that nothing reads is a promise broken in silence (as the released DSRL's action_magnitude)."""
    import re
    from pathlib import Path

    root = Path(__file__).parents[2]
    code = "\n".join(p.read_text() for room in ("envs", "methods", "sweeps") for p in (root / room).rglob("*.py"))
    read = set(re.findall(r"\.([a-z_0-9]+)", code))
    for name in METHODS:
        model = config_model(name)
        models = [model] + [model.model_fields[part].annotation for part in ("policy", "pretrain", "demos", "settings")]
        for cls in models:
            for field in cls.model_fields:
                assert field in read, f"{cls.__name__}.{field} is read nowhere"
