"""The fields of a run, one by one."""

from typing import Literal, get_args, get_origin

from pydantic import BaseModel


def leaves(model, *prefix):
    """Every field of a run that is a value: its dotted name, the types in its annotation and its default."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, *prefix, name)
        else:
            yield ".".join((*prefix, name)), kinds(field.annotation), field.get_default()


def kinds(annotation) -> set:
    inner = get_args(annotation)
    return set().union(*map(kinds, inner)) if inner and get_origin(annotation) is not Literal else {annotation}


def nested(name: str, value) -> dict:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value
