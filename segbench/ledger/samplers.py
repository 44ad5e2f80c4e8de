"""Draws configurations: search spaces as Optuna distributions, samplers and pruners."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from segbench.core import space as spaces
from segbench.core.protocol import Search
from segbench.core.records import Scalar
from segbench.core.space import Choice, Range, Space

_HALVING = 4  # of the trials that reach a rung, about one in so many goes on; Optuna's default


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Scalar]:
    """The parameters by hyperparameter: those the trial was planned with, else the sampler's choice."""
    known = trial.params  # a baseline's values may lie outside the space
    if not chosen(space, known).keys() <= known.keys():
        trial.study.get_trials(deepcopy=False)  # Optuna's cache keeps parameters only of attempts that it has read

    def value(entry: str) -> Scalar:
        return known[entry] if entry in known else _suggest(trial, entry, space[entry])

    if not any("." in entry for entry in space):
        return {entry: value(entry) for entry in space}
    optimizer = value("optimizer")  # first: the other entries depend on it
    return spaces.resolved({entry: value(entry) for entry in chosen(space, {"optimizer": optimizer})})


def chosen(space: Space, params: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """The entries of the space that a configuration with the `optimizer` in `params` has; without one, all."""
    if "optimizer" not in params:
        return dict(space)
    entries = set(spaces.entries(space, params["optimizer"]).values())
    return {entry: values for entry, values in space.items() if entry in entries}


def draw(distributions: Mapping[str, BaseDistribution], seed: int, index: int) -> dict[str, Any]:
    """One configuration drawn by RandomSampler, determined by (seed, index)."""
    sampler, (study, attempt) = optuna.samplers.RandomSampler(seed=_seed(seed, index)), _scratch()
    return {
        # Like Optuna, this draws nothing for a single value.
        name: _only_value(values) if values.single() else sampler.sample_independent(study, attempt, name, values)
        for name, values in distributions.items()
    }


def distribution(values: Range | Choice) -> BaseDistribution:
    """The range or choice as Optuna's distribution."""
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if values.integer:
        return IntDistribution(int(values.low), int(values.high))
    return FloatDistribution(values.low, values.high, log=values.log)


def around(value: Scalar, distribution: BaseDistribution) -> BaseDistribution:
    """The distribution; a range is widened to include `value`."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = min(distribution.low, float(value)), max(distribution.high, float(value))
    return FloatDistribution(low, high, log=distribution.log)


def sampler(search: Search) -> optuna.samplers.BaseSampler:
    """The sampler for trials whose parameters were not drawn when they were queued."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search.sampler == "tpe":
            return _ByTrial(lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True), search.seed)
        if search.sampler == "qmc":
            alone = _ByTrial(lambda seed: optuna.samplers.RandomSampler(seed=seed), search.seed)
            return optuna.samplers.QMCSampler(
                seed=search.seed, independent_sampler=alone, warn_independent_sampling=False
            )
        if search.sampler == "gp":
            return _ByTrial(lambda seed: optuna.samplers.GPSampler(seed=seed), search.seed)
        return optuna.samplers.RandomSampler(seed=search.seed)


def rungs(search: Search) -> tuple[int, ...]:
    """The epochs after which successive halving compares trials: 1, 4, 16, … below the last. They follow from the
    protocol's epochs alone, so they are the same for every architecture."""
    powers = (_HALVING**rung for rung in itertools.count())
    return tuple(itertools.takewhile(lambda epoch: epoch < search.epochs, powers))


def pruner(search: Search) -> optuna.pruners.BasePruner:
    """The pruner, which ends trials early. The median pruner acts from the fourth trial and the second epoch on."""
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
    if search.pruner == "halving":
        # Optuna's min_resource="auto" would wait for the first complete trial, so that rungs depended on the order.
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_HALVING)
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=search.epochs)
    return optuna.pruners.NopPruner()


class _ByTrial(optuna.samplers.BaseSampler):
    """Creates a new sampler with a separate seed for every trial. Otherwise all workers, and a resumed search, would
    start with the same seed and draw the same configurations."""

    def __init__(self, make: Callable[[int], optuna.samplers.BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._trial, self._sampler = -1, make(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def _of(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        if trial.number != self._trial:
            self._trial, self._sampler = trial.number, self._make(_seed(self._seed, trial.user_attrs.get("trial", -1)))
        return self._sampler


@functools.cache
def _scratch() -> tuple[optuna.Study, FrozenTrial]:
    """A study and trial to pass to the random sampler, which ignores them. Creating them for each trial would take
    longer than drawing its parameters."""
    return optuna.create_study(), optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)


def _only_value(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.low


def _seed(seed: int, index: int) -> int:
    return (seed * 1_000_003 + index) % 2**32


def _suggest(trial: optuna.Trial, name: str, values: Range | Choice) -> Scalar:
    if isinstance(values, Choice):
        return cast(Scalar, trial.suggest_categorical(name, values.values))
    if values.integer:
        return trial.suggest_int(name, int(values.low), int(values.high))
    return trial.suggest_float(name, values.low, values.high, log=values.log)
