"""Ask once whether calls of AWS go to an embedded SageMaker, which has pages of its own for a task's links."""

from __future__ import annotations

import os
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import botocore.session

from airflow_sm_plugin.aws.console import Console, pages_named
from airflow_sm_plugin.aws.hook import AwsHook

_HEALTH = "/_embedded/health"
_SECONDS = 2.0
"""For the one question; a server that is slower is no embedded SageMaker on this machine."""
_MOST_BYTES = 1_000


def console_of(hook: AwsHook) -> Console:
    """Find the console of a connection.

    :param hook: one with a client of SageMaker; one with a client of S3 finds the console of objects only
    """
    meta = hook.conn_client_meta
    pages = pages_at(str(meta.endpoint_url))
    if hook.client_type == "s3":
        return Console(meta.region_name, object_pages=pages)
    is_same = bool(pages) and _s3_url(hook, meta.region_name) == meta.endpoint_url
    return Console(meta.region_name, pages, pages if is_same else "")


def pages_at(endpoint_url: str) -> str:
    """Ask the server at an address for its pages; empty where it has none, or does not answer.

    Only plain HTTP is asked: AWS is called by HTTPS, and an embedded SageMaker never is.
    """
    parts = urlsplit(endpoint_url)
    if parts.scheme != "http" or not parts.hostname:
        return ""
    try:
        connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=_SECONDS)
        try:
            connection.request("GET", _HEALTH)
            response = connection.getresponse()
            health = response.read(_MOST_BYTES) if response.status == 200 else b""  # noqa: PLR2004 - HTTP's OK
        finally:
            connection.close()
    except (OSError, ValueError, HTTPException):
        return ""
    return pages_named(health, base=f"http://{parts.netloc.rpartition('@')[2]}/")


def _s3_url(hook: AwsHook, region_name: str) -> str:
    """Find the address of S3's calls as botocore does; a client is made only where a configuration file decides."""
    given = hook.conn_config.get_service_endpoint_url("s3")
    url = given or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if url:
        return url
    session = botocore.session.Session(profile=hook.conn_config.profile_name)
    client = session.create_client(
        "s3",
        region_name=region_name,
        aws_access_key_id="unused",
        aws_secret_access_key="unused",  # noqa: S106 - this client sends nothing
    )
    return str(client.meta.endpoint_url)
