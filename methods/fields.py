"""Fields of settings: their base class, and the types that say what they take, in YAML and on a command line alike."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from tyro.constructors import PrimitiveConstructorSpec

from dpft.arguments import SEED, Whole, whole


class Settings(BaseModel):
    """Known fields alone; every number is finite; true and false only where they are asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `on` as true, which pydantic would take for 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("no_switch", "Input should not be true or false")
        return value


def from_words(words: list[str]) -> int:
    value = whole(words[0])
    if not isinstance(value, int):
        raise ValueError(f"input should be a valid integer, got {words[0]!r}")
    return value


def ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError(f"the first must be below the second, not {list(pair)}")
    return pair


def check_inside(name: str, value: float, bounds_name: str, bounds: tuple[float, float]) -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise ValueError(f"{name} {value:g} is outside {bounds_name}, {list(bounds)}")


def residual(widths: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(widths)) != 1 or len(widths) % 2 == 0:
        raise ValueError(f"must be an odd number of equal widths, such as [256, 256, 256], not {list(widths)}")
    return widths


Count = Annotated[  # a whole number
    Whole,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=from_words,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
Seed = Annotated[Count, SEED]
Width = Annotated[Count, Field(ge=1)]  # neurons of a layer
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
ResidualWidths = Annotated[tuple[Width, ...], AfterValidator(residual)]  # the first layer, then two a residual block
Interval = Annotated[tuple[float, float], AfterValidator(ordered)]  # low, high
PositiveInterval = Annotated[tuple[Annotated[float, Field(gt=0)], float], AfterValidator(ordered)]
Share = Annotated[float, Field(ge=0, le=1)]
Quantiles = Annotated[tuple[Share, Share], AfterValidator(ordered)]
