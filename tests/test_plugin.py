"""Our registration with Airflow: the provider's description, by Airflow's own schema, and our links."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import json
import pkgutil
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from airflow.plugins_manager import AirflowPlugin
from airflow.providers_manager import ProvidersManager
from airflow.triggers.base import BaseTrigger

from airflow_sm_plugin import links
from airflow_sm_plugin._compat import BaseOperator, BaseSensorOperator
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


@pytest.mark.parametrize("kind", ["operators", "sensors", "triggers"])
def test_the_description_lists_every_module_with_a_public_class(kind: str) -> None:
    (listed,) = get_provider_info()[kind]
    folder = importlib.import_module(f"airflow_sm_plugin.{kind}")
    bases: Any = {"operators": BaseOperator, "sensors": BaseSensorOperator, "triggers": BaseTrigger}
    found = {
        module.name
        for module in pkgutil.iter_modules(folder.__path__, f"airflow_sm_plugin.{kind}.")
        for one in vars(importlib.import_module(module.name)).values()
        if inspect.isclass(one)
        if issubclass(one, bases[kind]) and one.__module__ == module.name
    }
    assert found - set(listed["python-modules"]) <= BASES
    assert set(listed["python-modules"]) <= found


BASES = {"airflow_sm_plugin.operators.invocation", "airflow_sm_plugin.triggers.polling"}
"""Modules of base classes only."""


@pytest.mark.parametrize("path", get_provider_info()["extra-links"])
def test_airflow_takes_the_links_over(path: str) -> None:
    assert path in ProvidersManager().extra_links_class_names


def test_loading_the_plugin_imports_no_web_framework_and_no_aws() -> None:
    """Every process of Airflow loads it, the workers included."""
    code = (
        "import sys, airflow.plugins_manager, airflow_sm_plugin.links\n"
        "before = set(sys.modules)\n"
        "import airflow_sm_plugin.plugin\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "boto3", "botocore", "sqlalchemy", "jinja2"} & set(done.stdout.split())


@pytest.mark.skipif(not hasattr(AirflowPlugin, "external_views"), reason="Airflow 3.1 has the page")
def test_the_page_is_registered_where_its_link_leads() -> None:
    (app,), (view,) = SageMakerInferencePlugin.fastapi_apps, SageMakerInferencePlugin.external_views
    assert app["url_prefix"] == f"/{view['href'].rstrip('/')}"
    assert callable(app["app"])
    assert (view["destination"], view["url_route"]) == ("nav", "sagemaker-endpoints")
