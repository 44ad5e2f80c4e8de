"""How configurations are drawn: spaces as Optuna distributions, trials, samplers and pruners."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from segbench.core.protocol import Choice, Range, Search, Space
from segbench.core.records import Scalar


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Scalar]:
    """The trial's parameters: those of its trial, or what the sampler chooses."""
    known = trial.params  # a baseline's values may lie outside the space
    return {name: known[name] if name in known else _suggest(trial, name, values) for name, values in space.items()}


def draw(distributions: Mapping[str, BaseDistribution], seed: int, index: int) -> dict[str, Any]:
    """One configuration as RandomSampler draws it, decided by (seed, index)."""
    own = optuna.samplers.RandomSampler(seed=_seed(seed, index))
    return optuna.create_study(sampler=own).ask(dict(distributions)).params


def distribution(values: Range | Choice) -> BaseDistribution:
    """Optuna's word for it."""
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if values.integer:
        return IntDistribution(int(values.low), int(values.high))
    return FloatDistribution(values.low, values.high, log=values.log)


def around(value: Scalar, distribution: BaseDistribution) -> BaseDistribution:
    """The distribution, widened where it is a range that lacks `value`."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = min(distribution.low, float(value)), max(distribution.high, float(value))
    return FloatDistribution(low, high, log=distribution.log)


def sampler(search: Search) -> optuna.samplers.BaseSampler:
    """What chooses the parameters of trials that were not drawn when they were queued."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search.sampler == "tpe":
            return _BySlot(lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True), search.seed)
        if search.sampler == "qmc":
            return optuna.samplers.QMCSampler(seed=search.seed, warn_independent_sampling=False)
        if search.sampler == "gp":
            return _BySlot(lambda seed: optuna.samplers.GPSampler(seed=seed), search.seed)
        return optuna.samplers.RandomSampler(seed=search.seed)


def pruner(search: Search) -> optuna.pruners.BasePruner:
    """What ends a trial early. The median is asked from the fourth trial and the second epoch on."""
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
    if search.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner()
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=search.epochs)
    return optuna.pruners.NopPruner()


class _BySlot(optuna.samplers.BaseSampler):
    """A sampler made anew for every trial, with a seed of its own: workers, and a search that goes on, all start with
    the same seed and would draw the same configurations again."""

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


def _seed(seed: int, index: int) -> int:
    return (seed * 1_000_003 + index) % 2**32


def _suggest(trial: optuna.Trial, name: str, values: Range | Choice) -> Scalar:
    if isinstance(values, Choice):
        return cast(Scalar, trial.suggest_categorical(name, values.values))
    if values.integer:
        return trial.suggest_int(name, int(values.low), int(values.high))
    return trial.suggest_float(name, values.low, values.high, log=values.log)
