"""Loggers whose arguments, such as an S3 key or an endpoint's answer, cannot imitate a line of the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._safe_text import presentable
from airflow_sm_plugin.exceptions import SageMakerInferenceError

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class OneLineLog(_Adapter):
    """A logger that shows each argument in one line and without credentials. The message is the caller's literal."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log with the source line of the caller."""
        if self.isEnabledFor(level):
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            self.logger.log(level, msg, *map(_shown, args), **kwargs)


class DebugLog(OneLineLog):
    """A logger for texts of other libraries that matter to their developers only: all are logged at DEBUG."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        del level
        super().log(logging.DEBUG, msg, *args, **kwargs)


def get_log(name: str) -> OneLineLog:
    return OneLineLog(logging.getLogger(name), {})


def _shown(value: object) -> object:
    if value is None or isinstance(value, int | float) or (isinstance(value, Mapping) and not value):
        return value
    return presentable(value.as_sentence if isinstance(value, SageMakerInferenceError) else str(value))
