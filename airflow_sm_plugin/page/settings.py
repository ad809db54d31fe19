"""The page's addresses, and its settings in Airflow's configuration, section ``[sagemaker_inference]``."""

from __future__ import annotations

from dataclasses import dataclass

from airflow.configuration import conf

URL_PREFIX = "/sagemaker-endpoints"
URL_ROUTE = "sagemaker-endpoints"
"""Of Airflow's page around ours: ``/plugin/<route>``."""

_SECTION = "sagemaker_inference"


@dataclass(frozen=True)
class PageSettings:
    """The connections and regions that the page shows.

    :param connections: ids of Airflow connections; each is asked for all regions
    :param regions: None is the connection's own, or the environment's
    """

    connections: tuple[str, ...]
    regions: tuple[str | None, ...]

    @classmethod
    def read(cls) -> PageSettings:
        connections = _words("connections", "aws_default")
        return cls(connections or ("aws_default",), _words("regions", "") or (None,))


def _words(option: str, default: str) -> tuple[str, ...]:
    value = conf.get(_SECTION, option, fallback=default) or ""
    return tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
