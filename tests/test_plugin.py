"""Our registration with Airflow: the provider's description, by Airflow's own schema, and our links."""

from __future__ import annotations

import importlib
import importlib.resources
import json

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

from airflow_sm_plugin import links
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.invoke import (
    SageMakerInvokeEndpointAsyncOperator,
    SageMakerInvokeEndpointOperator,
)
from airflow_sm_plugin.operators.multi_model import SageMakerMultiModelBatchOperator
from airflow_sm_plugin.plugin import SageMakerInferencePlugin
from airflow_sm_plugin.provider_info import get_provider_info
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor

pytestmark = pytest.mark.airflow


def test_the_description_keeps_to_airflows_schema() -> None:
    schema = importlib.resources.files("airflow").joinpath("provider_info.schema.json").read_text()
    jsonschema.validate(get_provider_info(), json.loads(schema))


def test_every_link_it_names_exists() -> None:
    for path in get_provider_info()["extra-links"]:
        module, _, name = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_provider_and_plugin_name_every_link_of_our_operators() -> None:
    """Airflow 2 shows only links that were registered."""
    used = {
        type(link)
        for operator in (
            SageMakerAsyncBatchOperator,
            SageMakerAsyncInferenceSensor,
            SageMakerDeployEndpointOperator,
            SageMakerInvokeEndpointAsyncOperator,
            SageMakerInvokeEndpointOperator,
            SageMakerMultiModelBatchOperator,
        )
        for link in operator.operator_extra_links
    }
    assert used == set(links.ALL_LINKS)
    assert {type(link) for link in SageMakerInferencePlugin.operator_extra_links} == used
    assert set(get_provider_info()["extra-links"]) == {f"{link.__module__}.{link.__name__}" for link in used}


@pytest.mark.parametrize("path", get_provider_info()["extra-links"])
def test_airflow_takes_the_links_over(path: str) -> None:
    assert path in ProvidersManager().extra_links_class_names
