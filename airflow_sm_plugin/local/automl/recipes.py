"""The candidates' recipes: which scikit-learn estimator stands for which of Autopilot's algorithms.

All are small: a job on a few hundred rows takes seconds on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
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

from airflow_sm_plugin.local.automl import problems
from airflow_sm_plugin.local.automl.archive.algorithm import Estimator
from airflow_sm_plugin.local.automl.archive.tabular import Floats

_SEED = 7
_LEAF = 5
"""Fewer rows than scikit-learn's 20: a set of thirty rows can be learned, too."""


class Trainable(Estimator, Protocol):
    """What is used of a scikit-learn estimator that is not fitted yet."""

    def fit(
        self, features: Floats, target: npt.NDArray[np.float64], **options: npt.NDArray[np.float64]
    ) -> object:
        """Fit; ``sample_weight`` is an option."""


@dataclass(frozen=True)
class Recipe:
    """One candidate: its family's name, the algorithms of the API it stands for, whether it wants scaled features."""

    name: str
    algorithms: frozenset[str]
    scaled: bool
    make: Callable[[], Trainable]
    by_default: bool = True


_BOOSTING = frozenset({"xgboost", "lightgbm", "catboost"})
_LINEAR = frozenset({"linear-learner"})
_FOREST = frozenset({"randomforest"})
_EXTRA = frozenset({"extra-trees"})
_NEURAL = frozenset({"mlp", "nn-torch", "fastai"})

_TREES = {"n_estimators": 60, "random_state": _SEED}
_GROWN = {"min_samples_leaf": _LEAF, "early_stopping": False, "random_state": _SEED}
_SHALLOW = {"learning_rate": 0.2, "max_depth": 3, **_GROWN}


_CLASSIFIERS = (
    Recipe("GradientBoosting", _BOOSTING, scaled=False,
           make=lambda: HistGradientBoostingClassifier(max_iter=60, **_GROWN)),
    Recipe("Linear", _LINEAR, scaled=True, make=lambda: LogisticRegression(max_iter=2000)),
    Recipe("RandomForest", _FOREST, scaled=False, make=lambda: RandomForestClassifier(**_TREES)),
    Recipe("ExtraTrees", _EXTRA, scaled=False, make=lambda: ExtraTreesClassifier(**_TREES)),
    Recipe("GradientBoostingShallow", _BOOSTING, scaled=False,
           make=lambda: HistGradientBoostingClassifier(max_iter=60, **_SHALLOW)),
    Recipe("LinearRegularized", _LINEAR, scaled=True, make=lambda: LogisticRegression(C=0.1, max_iter=2000)),
    Recipe("NeuralNet", _NEURAL, scaled=True, by_default=False,
           make=lambda: MLPClassifier((32,), max_iter=400, random_state=_SEED)),
)  # fmt: skip
_REGRESSORS = (
    Recipe("GradientBoosting", _BOOSTING, scaled=False,
           make=lambda: HistGradientBoostingRegressor(max_iter=80, **_GROWN)),
    Recipe("Linear", _LINEAR, scaled=True, make=lambda: Ridge(1.0)),
    Recipe("RandomForest", _FOREST, scaled=False, make=lambda: RandomForestRegressor(**_TREES)),
    Recipe("ExtraTrees", _EXTRA, scaled=False, make=lambda: ExtraTreesRegressor(**_TREES)),
    Recipe("GradientBoostingShallow", _BOOSTING, scaled=False,
           make=lambda: HistGradientBoostingRegressor(max_iter=80, **_SHALLOW)),
    Recipe("LinearRegularized", _LINEAR, scaled=True, make=lambda: Ridge(30.0)),
    Recipe("NeuralNet", _NEURAL, scaled=True, by_default=False,
           make=lambda: MLPRegressor((32,), max_iter=400, random_state=_SEED)),
)  # fmt: skip


def recipes(problem_type: str, algorithms: Collection[str]) -> list[Recipe]:
    """Return the recipes for a problem type, only those of ``algorithms`` when any are named."""
    known = _REGRESSORS if problem_type == problems.REGRESSION else _CLASSIFIERS
    return [
        recipe
        for recipe in known
        if (recipe.algorithms & set(algorithms) if algorithms else recipe.by_default)
    ]
