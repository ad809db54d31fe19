"""What a task read from S3 and wrote there: OpenLineage datasets, and events of the assets among its outlets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Asset, AssetAlias, Context
from airflow_sm_plugin.core.s3 import S3Uri

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

_EVENT = (
    *("endpoint_name", "inputs", "records", "succeeded", "failed", "expired", "refused"),
    *("report_location", "report_page_location"),
)

_MOST = 100
"""Datasets of a task. A sensor can wait for thousands of results; their folders say as much."""


class S3Lineage:
    """Mixin of operators and sensors with input and output in S3.

    OpenLineage asks a task for its datasets if Airflow's OpenLineage provider is installed. An S3 object is a dataset
    with the namespace ``s3://bucket`` and the key as its name (OpenLineage, "Dataset naming").
    """

    outlets: Any
    _datasets: tuple[Sequence[str], Sequence[str]] = ((), ())

    def note_data(
        self,
        context: Context,
        *,
        inputs: Sequence[str | None] = (),
        outputs: Sequence[str | None] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep what the task read and wrote for OpenLineage, and add it to the events of the task's outlets.

        The event of an asset gets *extra*. An asset alias becomes an asset for each output.

        :param inputs: S3 locations; None is left out, as in ``outputs``
        :param extra: JSON values without secrets
        """
        read, written = _unique(inputs), _unique(outputs)
        self._datasets = read, written
        events: Any = context.get("outlet_events")
        if events is None:  # outside of Airflow
            return
        for outlet in self.outlets:
            if isinstance(outlet, AssetAlias):
                for location in written:
                    events[outlet].add(Asset(location), extra=dict(extra or {}))
            elif isinstance(outlet, Asset):
                events[outlet].extra.update(extra or {})

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage:  # noqa: ARG002 - OpenLineage's signature
        """Return the datasets to OpenLineage's listener, also when the task failed."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        read, written = self._datasets
        return OperatorLineage(inputs=[*map(_dataset, read)], outputs=[*map(_dataset, written)])


def event_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Choose from a report's summary what the event of an asset tells about a batch."""
    return {name: summary[name] for name in _EVENT if summary.get(name) is not None}


def _unique(locations: Sequence[str | None]) -> Sequence[str]:
    given = list(dict.fromkeys(location for location in locations if location))
    if len(given) <= _MOST:
        return given
    return list(dict.fromkeys(f"{location.rpartition('/')[0]}/" for location in given))[:_MOST]


def _dataset(location: str) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = S3Uri.parse(location)
    return Dataset(namespace=f"s3://{uri.bucket}", name=uri.key.strip("/") or "/")
