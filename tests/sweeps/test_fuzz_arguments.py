"""Whatever is given to whichever option of whichever verb: no traceback, no exit 0 on nonsense, one line on stderr."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dpft.arguments import Parser
from dpft.sweeps.cli import VERBS, main
from dpft.sweeps.config import config_model

# arguments that no option can make right, found out after every option is read
HOPELESS = {
    "demos": ["hopper-medium", "--source", "{tmp}/nothing.hdf5"],
    "pretrain": ["--demos.source", "{tmp}/nothing.hdf5"],
    "train": ["--out", "{tmp}/out", "--base", "{tmp}/nothing.safetensors"],
    "eval": ["{tmp}/nothing"],
    "sweep": ["{tmp}/nothing.yaml"],
    "tune": ["{tmp}/nothing.yaml"],
    "status": ["{tmp}/nothing"],
    "resume": ["{tmp}/nothing"],
    "cancel": ["{tmp}/nothing"],
    "publish": ["{tmp}/nothing"],
    "figures": ["{tmp}/nothing"],
    "compare": ["{tmp}/nothing", "{tmp}/nothing"],
    "report": ["{tmp}/nothing"],
    "import-curve": ["{tmp}/nothing", "--method", "x", "--task", "y", "--eval-episodes", "1", "--out", "{tmp}/out"],
    "video": ["{tmp}/nothing"],
    "train-expert": ["hopper-medium", "--target", "1", "--out", "{tmp}/file/x.safetensors"],
    "check-method": ["nothing:Nothing"],
    "methods": ["nothing"],
    "tasks": ["nothing"],
    "grids": ["nothing"],
}
ODD = [
    *("", " ", "0", "-0", "-1", "1", "1.5", "1e6", "1e400", "-1e400", "nan", "inf", "-inf", "1_0", "010", "0x10", "1k"),
    *("True", "None", "null", "on", "2024-01-01", "12:30", "[1, 2]", "{}", "[red]", "$x^2$", "%s", "%(x)s", "{0}"),
    *("\0", "a\nb", "\r", "\x1b[2J", "\u2028", "\u202e", "é" * 300, "x" * 300, "x" * 5000, "9" * 400, "$(touch x)"),
    *("/", ".", "..", "../..", "/dev/null", "/proc/nothing/x", "~nobody", "{tmp}", "{tmp}/file", "{tmp}/file/x", "-x"),
    *("--", "---", "\\", "a:b", ":", "a:", ":b", "os:path", "=1+1", "hopper-medium", "expert:x", "minari:", "d4rl:"),
]
TEXT = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUE = TEXT.filter(lambda text: text not in ("-h", "--help"))


class Found(Exception):
    """A verb's parser."""


def fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The options of a config: its fields by dotted names."""
    names = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += fields(field.annotation, f"{prefix}{name}.")
        else:
            names.append(f"--{prefix}{name}".replace("_", "-"))
    return names


@pytest.fixture(scope="module")
def options() -> dict[str, list[str]]:
    """Verb -> its options, as its own parser has them."""

    def found(self, *arguments):
        raise Found(self)

    every = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_args", found)
        for verb in VERBS:
            if verb in ("train", "pretrain"):
                own = ["--config", "--out", "--allow-hardware-change"] if verb == "train" else ["--config"]
                every[verb] = own + fields(config_model("ncdpo"))
                continue
            with pytest.raises(Found) as caught:
                main([verb])
            names = [name for action in caught.value.args[0]._actions for name in action.option_strings]
            every[verb] = [name for name in names if name not in ("-h", "--help")]
    return every


def test_every_verb_is_hopeless():
    assert HOPELESS.keys() == VERBS.keys()


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    return tmp_path


SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.mark.parametrize("verb", VERBS)
@settings(max_examples=10, **SHARED)
@given(data=st.data())
def test_nonsense(verb, data, options, where, capsys):
    check(verb, data, options, where, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@settings(max_examples=100, **SHARED)
@given(data=st.data())
def test_more_nonsense(verb, data, options, where, capsys):
    check(verb, data, options, where, capsys)


def check(verb: str, data, options, tmp_path, capsys) -> None:
    before = sorted(tmp_path.iterdir())
    given = list(HOPELESS[verb])
    for name in data.draw(st.lists(st.sampled_from(options[verb] or ["--x"]), max_size=3)):
        given[0:0] = [name, data.draw(VALUE)]
    if data.draw(st.booleans()):
        given.insert(data.draw(st.integers(0, len(given))), data.draw(VALUE))
    try:
        code = main([verb, *(argument.replace("{tmp}", str(tmp_path)) for argument in given)])
    except SystemExit as ended:  # help alone may end so
        code = ended.code
    captured = capsys.readouterr()
    assert code == 2, given
    lines = captured.err.splitlines()
    paths = len([argument for argument in given if not argument.startswith("--")])
    assert len(lines) == 1 or (verb == "figures" and len(lines) <= paths), (given, lines)  # it says a line of each path
    assert lines[0].startswith(f"dpft {verb}: "), given
    assert captured.out == "", given
    assert sorted(tmp_path.iterdir()) == before, given
