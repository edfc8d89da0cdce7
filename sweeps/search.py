"""The trials of `dpft tune`: what a grid's `tune` section asks for, and the settings that a sampler proposes."""

import csv
import math
import warnings
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dpft.envs import get_task
from dpft.envs.task import DataError
from dpft.sweeps.config import Count, RunConfig, Seed, explain
from dpft.sweeps.grid import META, Grid, axes_of, dotted, expand
from dpft.sweeps.launch import Sweep
from dpft.sweeps.records import read_done

TUNABLE = ("settings", "policy", "pretrain")  # the rest is what is asked, or its budget
OWN_PROPOSALS, PROPOSALS = 50, 5000  # for one new trial: the sampler's, then random ones


class Range(BaseModel):
    """The values from low to high, both included; log: evenly by their logarithm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low has to be below high, got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs low above 0, got {self.low:g}")
        return self


class Tuning(BaseModel):
    """The `tune` section of a grid."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: Count = Field(ge=1)  # of each method
    ranges: dict[str, dict[str, Any]]  # method -> dotted field -> choices, or the fields of a Range
    batch: Count = Field(4, ge=1)  # trials of each method that are proposed before any of them has a score
    objective: Literal["mean", "final"] = "mean"  # return of the evaluations after the base's own, or of the last one
    sampler: Literal["tpe", "random", "qmc"] = "tpe"
    seed: Seed = 0  # of the sampler

    @classmethod
    def of(cls, grid: Grid) -> "Tuning":
        """The search that a grid asks for. Raises DataError where it makes no sense or the methods' budgets differ."""
        tuning = validated(cls, grid.data["tune"], "tune")
        budgets: dict[str, list[int]] = {}
        for run in grid.runs.values():
            budgets.setdefault(run.method, []).append(run.env_steps)
        if set(tuning.ranges) != set(budgets):
            raise DataError(f"tune.ranges: for {', '.join(tuning.ranges)}, but the methods are {', '.join(budgets)}")
        if len({tuple(sorted(steps)) for steps in budgets.values()}) > 1:
            found = ", ".join(f"{method} {len(steps)} runs, {sum(steps):,} steps" for method, steps in budgets.items())
            raise DataError(f"tune: every method gets the same budget, but a trial is of {found}")
        if len({run.task for run in grid.runs.values()}) > 1:
            for run in grid.runs.values():
                if not get_task(run.task).reference_scores:
                    raise DataError(f"tune: {run.task} has no D4RL-scaled return to average over tasks: tune it alone")
        return tuning


def validated(model: type[Any], given: Any, where: str) -> Any:
    if not isinstance(given, dict):
        raise DataError(f"{where}: expected {', '.join(model.model_fields)}, got {given!r}")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise DataError("; ".join(explain(problem, model, where) for problem in error.errors())) from None


@dataclass(frozen=True)
class Trial:
    values: dict[str, Any]  # dotted field -> value
    runs: dict[str, RunConfig]  # those of the grid, with these values
    asked: Any  # optuna's trial
    score: float = math.nan  # mean over the runs; -inf where one of them diverged


class Search:
    """The trials of one method, asked of a sampler of optuna."""

    def __init__(self, grid: Grid, tuning: Tuning, method: str) -> None:
        """Raises DataError for ranges of fields that there are not, or of values that they cannot have."""
        import optuna

        self.grid, self.tuning, self.method = grid, tuning, method
        self.where = f"tune.ranges.{method}"
        self.overrides = dotted((grid.data.get("overrides") or {}).get(method, {}))
        self.ranges = {field: self.checked(field, given) for field, given in tuning.ranges[method].items()}
        self.space = {field: self.distribution(field, given) for field, given in self.ranges.items()}
        settings = math.prod(size for _, size in self.space.values())
        if settings < tuning.trials:
            raise DataError(f"{self.where}: {settings} settings are fewer than {tuning.trials} trials")
        self.trials: list[Trial] = []
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = optuna.samplers
        kinds = {"tpe": samplers.TPESampler, "random": samplers.RandomSampler, "qmc": samplers.QMCSampler}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # QMCSampler says that it is new
            self.sampler = kinds[tuning.sampler](seed=tuning.seed)
        self.study = optuna.create_study(direction="maximize", sampler=self.sampler)

    def checked(self, field: str, given: Any) -> Range | list[Any]:
        where = f"{self.where}.{field}"
        if field.split(".")[0] not in TUNABLE:
            raise DataError(f"{where}: expected a field by its dotted name, of {', '.join(TUNABLE)}")
        fields = dotted({key: value for key, value in self.grid.data.items() if key not in META})
        if field in self.overrides or field in axes_of(fields | {"method": self.method}):
            raise DataError(f"{where}: the grid gives it values already, in overrides or as an axis")
        if not isinstance(given, list):
            return validated(Range, given, where)
        if not given or any(choice in given[:n] for n, choice in enumerate(given)):
            raise DataError(f"{where}: expected different choices, got {given!r}")
        return given

    def distribution(self, field: str, given: Range | list[Any]) -> tuple[Any, float]:
        """Of a range, as optuna has it, and how many values are in it. The config judges bounds and choices."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        ends = given if isinstance(given, list) else [given.low, given.high]
        found = [reduce(getattr, field.split("."), run) for end in ends for run in self.runs({field: end}).values()]
        if isinstance(given, list):  # by number: optuna knows no lists as choices
            return CategoricalDistribution(range(len(given))), len(given)
        low, high = found[0], found[-1]
        if type(low) is int:
            return IntDistribution(low, high, log=given.log), high - low + 1
        if type(low) is float:
            return FloatDistribution(low, high, log=given.log), math.inf
        raise DataError(f"{self.where}.{field}: it is no number: give a list of choices")

    def runs(self, values: dict[str, Any]) -> dict[str, RunConfig]:
        """The grid's runs of this method with these values, which their ids say."""
        rest = {key: value for key, value in self.grid.data.items() if key not in ("method", "overrides", "tune")}
        axes = {field: [value] for field, value in values.items()}
        return expand(rest | {"method": self.method, "overrides": {self.method: self.overrides | axes}})

    def propose(self, count: int) -> None:
        """Add new trials. Raises DataError where next to nothing new is left."""
        from optuna.samplers import RandomSampler
        from optuna.trial import TrialState

        space = {field: distribution for field, (distribution, _) in self.space.items()}
        known = {name for trial in self.trials for name in trial.runs}
        other = RandomSampler(seed=self.tuning.seed)
        for _ in range(count):
            for attempt in range(PROPOSALS):
                self.study.sampler = self.sampler if attempt < OWN_PROPOSALS else other
                asked = self.study.ask(space)
                values = {field: self.rounded(field, value) for field, value in asked.params.items()}
                runs = self.runs(values)
                if known.isdisjoint(runs):
                    break
                self.study.tell(asked, state=TrialState.FAIL)
            else:
                raise DataError(f"{self.where}: hardly a setting is left that was not tried: ask for fewer trials")
            self.trials.append(Trial(values, runs, asked))
            known |= runs.keys()

    def rounded(self, field: str, value: Any) -> Any:
        """A float to three digits, as it is in the run's name; the choice that is meant by a number."""
        given = self.ranges[field]
        if isinstance(given, list):
            return given[value]
        return min(max(float(f"{value:.3g}"), given.low), given.high) if isinstance(value, float) else value

    def tell(self, sweep: Sweep) -> None:
        """Give trials their scores, and the sampler; every run of theirs has ended."""
        for number, trial in enumerate(self.trials):
            if math.isnan(trial.score):
                score = fmean(run_score(sweep.run(name), self.tuning.objective) for name in trial.runs)
                self.study.tell(trial.asked, score)
                self.trials[number] = replace(trial, score=score)

    def best(self) -> Trial | None:
        """None where every trial diverged."""
        found = max(self.trials, key=lambda trial: trial.score)
        return found if math.isfinite(found.score) else None


def run_score(run: Path, objective: str) -> float:
    """A run's return, D4RL-scaled where its task is; -inf where it diverged. Raises DataError for damaged records."""
    done = read_done(run) or {}
    if done.get("status") == "failed":
        return -math.inf
    try:
        with (run / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        returns = [float(row["return_normalised"] or row["return_mean"]) for row in rows]
        score = returns[-1] if objective == "final" else fmean(returns[1:] or returns)
        if int(rows[-1]["env_steps"]) < done["env_steps"] or not math.isfinite(score):
            raise ValueError
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        raise DataError(f"{run / 'curve.csv'} is damaged: delete {run}, and dpft tune makes it again") from None
    return score
