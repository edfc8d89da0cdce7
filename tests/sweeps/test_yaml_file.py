"""YAML as people write it."""

import pytest
import yaml

from dpft.envs import DataError
from dpft.sweeps.yaml_file import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0123", "0123"),
        ("2026-11-25", "2026-11-25"),
        ("1:30:00", "1:30:00"),
        ("on", "on"),
        ("no", "no"),
        ("0x1F", "0x1F"),
        ("true", True),
        ("False", False),
        ("0", 0),
        ("-7", -7),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("~", None),
    ],
)
def test_plain_words(text, value):
    """What a person means by them; YAML 1.1 knows octal numbers, dates and more words of truth."""
    found = parse_yaml(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("text", ["!!int ''", "!!bool x", "!!timestamp x", "!!float x", "- " * 5000, "{a: 1", "\0"])
def test_what_cannot_be_read_is_one_line(text, tmp_path):
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(DataError, match="cannot read ") as caught:
        read_yaml(tmp_path / "file.yaml")
    assert "\n" not in str(caught.value)
