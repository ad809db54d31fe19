"""The one file that knows Airflow 2.11 from Airflow 3: every other module takes Airflow's names from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, BaseOperatorLink, BaseSensorOperator, Context, PokeReturnValue
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
    from airflow.sdk.execution_time.xcom import XCom
else:
    try:
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
    except ImportError:  # before Airflow 3.1
        from airflow.exceptions import AirflowFailException, AirflowSkipException
    try:
        from airflow.sdk import BaseOperator, BaseOperatorLink, BaseSensorOperator, Context, PokeReturnValue
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:  # Airflow 2.11
        from airflow.models import BaseOperator, XCom
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
        from airflow.utils.context import Context

__all__ = [
    "AirflowFailException",
    "AirflowSkipException",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "Context",
    "PokeReturnValue",
    "XCom",
    "default_deferrable",
]


def default_deferrable() -> bool:
    """Return Airflow's setting ``[operators] default_deferrable``."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
