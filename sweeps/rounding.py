"""Draws of a sampler rounded to multiples, as W&B's distributions with a `q` give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweeps.parameters import Parameter


class Rounding(BaseSampler):
    """Draws as `sampler` does, and rounds what it draws for `multiples` (by name) to the multiple that is the nearest.

    Optuna itself steps from the lower end of a range and has no logarithmic steps.
    """

    def __init__(self, sampler: BaseSampler, multiples: Mapping[str, Parameter]) -> None:
        self.sampler = sampler
        self.multiples = multiples

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        draws = self.sampler.sample_relative(study, trial, search_space)
        return {name: self._round(name, value) for name, value in draws.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        draw = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._round(param_name, draw)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def _round(self, name: str, value: Any) -> Any:
        return self.multiples[name].nearest(value) if name in self.multiples else value
