"""The candidates' recipes: which scikit-learn estimator stands for which of Autopilot's algorithms.

All are small: a job on a few hundred rows takes seconds on one core.
"""

from __future__ import annotations

import dataclasses
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

from airflow_sm_plugin.local.automl.archive.algorithm import Estimator
from airflow_sm_plugin.local.automl.archive.tabular import Floats
from airflow_sm_plugin.local.automl.training import problems

_SEED = 7
_LEAF = 5
"""Fewer rows than scikit-learn's 20: a set of thirty rows can be learned, too."""


class Trainable(Estimator, Protocol):
    """The part of a scikit-learn estimator, not fitted yet, that is used."""

    def fit(
        self, features: Floats, target: npt.NDArray[np.float64], **options: npt.NDArray[np.float64]
    ) -> object:
        """Fit; ``sample_weight`` is an option."""


@dataclass(frozen=True)
class Recipe:
    """One candidate: its family's name, the algorithms of the API it stands for, whether it wants scaled features.

    :param build: makes the estimator of a variant, whose settings differ from those of the others
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
        return (
            dataclasses.replace(self, name=f"{self.name}{variant + 1}", variant=variant) if variant else self
        )


_BOOSTING = frozenset({"xgboost", "lightgbm", "catboost"})
_LINEAR = frozenset({"linear-learner"})
_FOREST = frozenset({"randomforest"})
_EXTRA = frozenset({"extra-trees"})
_NEURAL = frozenset({"mlp", "nn-torch", "fastai"})

MOST_CANDIDATES = 12
"""As many as a job trains at most, whatever MaxCandidates permits: two of each recipe, a minute on one core."""

_GROWN = {"min_samples_leaf": _LEAF, "early_stopping": False, "random_state": _SEED}
_SHALLOW = {"learning_rate": 0.2, "max_depth": 3, **_GROWN}


def _trees(variant: int) -> dict[str, int]:
    return {"n_estimators": 60 + 20 * variant, "random_state": _SEED + variant}


_CLASSIFIERS = (
    Recipe("GradientBoosting", _BOOSTING, scaled=False,
           build=lambda turn: HistGradientBoostingClassifier(max_iter=60 + 20 * turn, **_GROWN)),
    Recipe("Linear", _LINEAR, scaled=True, build=lambda turn: LogisticRegression(C=1 + turn, max_iter=2000)),
    Recipe("RandomForest", _FOREST, scaled=False, build=lambda turn: RandomForestClassifier(**_trees(turn))),
    Recipe("ExtraTrees", _EXTRA, scaled=False, build=lambda turn: ExtraTreesClassifier(**_trees(turn))),
    Recipe("GradientBoostingShallow", _BOOSTING, scaled=False,
           build=lambda turn: HistGradientBoostingClassifier(max_iter=60 + 20 * turn, **_SHALLOW)),
    Recipe("LinearRegularized", _LINEAR, scaled=True,
           build=lambda turn: LogisticRegression(C=0.1 / (1 + turn), max_iter=2000)),
    Recipe("NeuralNet", _NEURAL, scaled=True, by_default=False,
           build=lambda turn: MLPClassifier((32,), max_iter=400, random_state=_SEED + turn)),
)  # fmt: skip
_REGRESSORS = (
    Recipe("GradientBoosting", _BOOSTING, scaled=False,
           build=lambda turn: HistGradientBoostingRegressor(max_iter=80 + 20 * turn, **_GROWN)),
    Recipe("Linear", _LINEAR, scaled=True, build=lambda turn: Ridge(1.0 + turn)),
    Recipe("RandomForest", _FOREST, scaled=False, build=lambda turn: RandomForestRegressor(**_trees(turn))),
    Recipe("ExtraTrees", _EXTRA, scaled=False, build=lambda turn: ExtraTreesRegressor(**_trees(turn))),
    Recipe("GradientBoostingShallow", _BOOSTING, scaled=False,
           build=lambda turn: HistGradientBoostingRegressor(max_iter=80 + 20 * turn, **_SHALLOW)),
    Recipe("LinearRegularized", _LINEAR, scaled=True, build=lambda turn: Ridge(30.0 * (1 + turn))),
    Recipe("NeuralNet", _NEURAL, scaled=True, by_default=False,
           build=lambda turn: MLPRegressor((32,), max_iter=400, random_state=_SEED + turn)),
)  # fmt: skip


def recipes(problem_type: str, algorithms: Collection[str], count: int | None = None) -> list[Recipe]:
    """Return the recipes for a problem type, only those of ``algorithms`` when any are named.

    :param count: how many, by variants where there are fewer recipes; None: one of each
    """
    known = _REGRESSORS if problem_type == problems.REGRESSION else _CLASSIFIERS
    chosen = [
        recipe
        for recipe in known
        if (recipe.algorithms & set(algorithms) if algorithms else recipe.by_default)
    ]
    if not chosen or count is None:
        return chosen
    return [chosen[number % len(chosen)].varied(number // len(chosen)) for number in range(count)]
