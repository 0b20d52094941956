"""Draws of a sampler rounded to multiples, as W&B's quantised distributions give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweeps.definition import Parameter


class Rounding(BaseSampler):
    """Draws as `sampler` does, and rounds what it draws for `quantised` (by name) to the multiple that is the nearest.

    Optuna itself steps from the lower end of a range and has no logarithmic steps.
    """

    def __init__(self, sampler: BaseSampler, quantised: Mapping[str, Parameter]) -> None:
        self.sampler = sampler
        self.quantised = quantised

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self.sampler.sample_relative(study, trial, search_space)
        return {name: self._rounded(name, value) for name, value in drawn.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        drawn = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._rounded(param_name, drawn)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def _rounded(self, name: str, value: Any) -> Any:
        return self.quantised[name].nearest(value) if name in self.quantised else value
