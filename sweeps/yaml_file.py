"""YAML files written by people: safely loaded, and a key given twice is an error instead of a lost value."""

import re
from pathlib import Path
from typing import Any

import yaml

from dpft.envs.task import DataError

# of YAML 1.1 only what people mean: 1:30:00 is a time, 0123 and 2026-11-25 are names, on and yes are words
PLAIN = {
    "tag:yaml.org,2002:bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"),
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$"),
    "tag:yaml.org,2002:timestamp": re.compile(r"(?!)"),
}


class UniqueKeys(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, PLAIN.get(tag, pattern)) for tag, pattern in rules]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Raises yaml.YAMLError for what is no YAML and for a key given twice."""
    try:
        return yaml.load(text, UniqueKeys)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise yaml.YAMLError(f"a value that cannot be read ({type(error).__name__})") from None


def read_yaml(path: Path) -> Any:
    """The contents of a file. Raises DataError where it cannot be read, with the line."""
    try:
        return parse_yaml(path.read_text())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from None
