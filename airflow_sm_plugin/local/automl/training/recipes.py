"""The candidates' recipes: the scikit-learn estimators used for Autopilot's algorithms.

All are small: a job with a few hundred rows takes seconds on a core.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor

from airflow_sm_plugin.local.automl.archive.algorithm import Estimator
from airflow_sm_plugin.local.automl.archive.tabular import Floats, Numbers
from airflow_sm_plugin.local.automl.training.plan import REGRESSION

_SEED = 7
"""Any fixed number: the same data give the same models, so that trained jobs can be kept and compared."""
_LEAF = 5
"""Fewer rows than scikit-learn's 20, so that a model can learn from thirty rows."""


class Trainable(Estimator, Protocol):
    """The used methods of an unfitted scikit-learn estimator."""

    def fit(self, features: Floats, target: Numbers, **options: Numbers) -> object:
        """Fit; ``sample_weight`` is an option."""


@dataclass(frozen=True)
class Recipe:
    """A candidate: its family's name, the API's algorithms that it represents, whether it needs scaled features.

    :param build: makes the estimator of a variant; each variant has other settings
    """

    name: str
    algorithms: frozenset[str]
    scaled: bool
    build: Callable[[int], Trainable]
    by_default: bool = True
    variant: int = 0

    def make(self) -> Trainable:
        return self.build(self.variant)

    def varied(self, variant: int) -> Recipe:
        if not variant:
            return self
        return dataclasses.replace(self, name=f"{self.name}{variant + 1}", variant=variant)


_BOOSTING = frozenset({"xgboost", "lightgbm", "catboost"})
_LINEAR = frozenset({"linear-learner"})
_FOREST = frozenset({"randomforest"})
_EXTRA = frozenset({"extra-trees"})
_NEURAL = frozenset({"mlp", "nn-torch", "fastai"})

MOST_CANDIDATES = 12
"""Limit of a job's candidates, whatever MaxCandidates permits: two of each recipe, a minute on a core."""

_GROWN = {"min_samples_leaf": _LEAF, "early_stopping": False, "random_state": _SEED}
_SHALLOW = {"learning_rate": 0.2, "max_depth": 3, **_GROWN}


def _trees(variant: int) -> dict[str, int]:
    return {"n_estimators": 60 + 20 * variant, "random_state": _SEED + variant}


_CLASSIFIERS = (
    Recipe("GradientBoosting", _BOOSTING, scaled=False,
           build=lambda variant: HistGradientBoostingClassifier(max_iter=60 + 20 * variant, **_GROWN)),
    Recipe("Linear", _LINEAR, scaled=True, build=lambda variant: LogisticRegression(C=1 + variant, max_iter=2000)),
    Recipe("RandomForest", _FOREST, scaled=False, build=lambda variant: RandomForestClassifier(**_trees(variant))),
    Recipe("ExtraTrees", _EXTRA, scaled=False, build=lambda variant: ExtraTreesClassifier(**_trees(variant))),
    Recipe("GradientBoostingShallow", _BOOSTING, scaled=False,
           build=lambda variant: HistGradientBoostingClassifier(max_iter=60 + 20 * variant, **_SHALLOW)),
    Recipe("LinearRegularized", _LINEAR, scaled=True,
           build=lambda variant: LogisticRegression(C=0.1 / (1 + variant), max_iter=2000)),
    Recipe("NeuralNet", _NEURAL, scaled=True, by_default=False,
           build=lambda variant: MLPClassifier((32,), max_iter=400, random_state=_SEED + variant)),
)  # fmt: skip
_REGRESSORS = (
    Recipe("GradientBoosting", _BOOSTING, scaled=False,
           build=lambda variant: HistGradientBoostingRegressor(max_iter=80 + 20 * variant, **_GROWN)),
    Recipe("Linear", _LINEAR, scaled=True, build=lambda variant: Ridge(1.0 + variant)),
    Recipe("RandomForest", _FOREST, scaled=False, build=lambda variant: RandomForestRegressor(**_trees(variant))),
    Recipe("ExtraTrees", _EXTRA, scaled=False, build=lambda variant: ExtraTreesRegressor(**_trees(variant))),
    Recipe("GradientBoostingShallow", _BOOSTING, scaled=False,
           build=lambda variant: HistGradientBoostingRegressor(max_iter=80 + 20 * variant, **_SHALLOW)),
    Recipe("LinearRegularized", _LINEAR, scaled=True, build=lambda variant: Ridge(30.0 * (1 + variant))),
    Recipe("NeuralNet", _NEURAL, scaled=True, by_default=False,
           build=lambda variant: MLPRegressor((32,), max_iter=400, random_state=_SEED + variant)),
)  # fmt: skip


def recipes(problem_type: str, algorithms: Collection[str], count: int | None = None) -> list[Recipe]:
    """Choose the recipes for a problem type, only those of ``algorithms`` when any are named.

    :param count: how many, with variants where there are fewer recipes; None chooses each recipe once
    """
    available = _REGRESSORS if problem_type == REGRESSION else _CLASSIFIERS
    chosen = [
        recipe
        for recipe in available
        if (recipe.algorithms & set(algorithms) if algorithms else recipe.by_default)
    ]
    if not chosen or count is None:
        return chosen
    return [chosen[index % len(chosen)].varied(index // len(chosen)) for index in range(count)]
