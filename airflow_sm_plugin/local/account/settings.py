"""The settings of a running embedded SageMaker, changed over HTTP or in Python."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass
class Settings:
    """Delays, in seconds, and sizes. A delay is the least duration of an operation; its real work can take longer.

    A change of how long endpoints, jobs and models take (``endpoint_…`` but for the configuration's delay,
    ``deployment_wait_limit_seconds``, ``serverless_cold_start_seconds``, ``automl_seconds``, ``transform_seconds``,
    ``multi_model_download_seconds``, ``multi_model_load_seconds``) holds also for work under way: an endpoint that
    is Creating for an hour is InService once ``endpoint_creating_seconds`` is set to 0. The others hold for work that
    begins after the change.

    - ``endpoint_config_delay_seconds``: CreateEndpoint and UpdateEndpoint see an endpoint configuration only so long
      after its creation
    - ``deployment_wait_limit_seconds``, ``scaling_cooldown_limit_seconds``: the longest that the waits of a
      DeploymentConfig, and the cooldowns of a scaling policy, really take
    - ``serverless_cold_start_seconds``: additional time of the first request after ``serverless_idle_seconds``
    - ``scaling_interval_seconds``: how often scalable targets are polled; ``scaling_window_seconds``: the time over
      which invocations are counted, as invocations a minute
    - ``multi_model_download_seconds`` and ``multi_model_load_seconds``: how long a multi-model endpoint takes to fetch
      and to load a model; a call waits for ``multi_model_ready_wait_seconds`` until it is ready
    - ``multi_model_capacity``: how many models an instance holds; ``multi_model_memory_mb``: how large they can be
      together, unpacked, in MiB; 0: no limit
    - ``model_data_limit_mb`` (MiB, unpacked) and ``model_data_limit_files``: how large the model data of a container, a
      target model or a container's source code can be; 0: no limit
    - ``data_capture_seconds``: how long captured data wait until they are written
    - the two ``async_`` settings hold for a request that names no RequestTTLSeconds or InvocationTimeoutSeconds

    ``GET /_embedded/settings`` answers them as JSON, ``PUT /_embedded/settings`` changes the given ones.
    """

    endpoint_creating_seconds: float = 0.2
    endpoint_updating_seconds: float = 0.2
    endpoint_rolling_back_seconds: float = 0.1
    endpoint_deleting_seconds: float = 0.1
    endpoint_config_delay_seconds: float = 0.0
    deployment_wait_limit_seconds: float = 1.0
    serverless_cold_start_seconds: float = 0.0
    serverless_idle_seconds: float = 300.0
    scaling_interval_seconds: float = 1.0
    scaling_cooldown_limit_seconds: float = 5.0
    scaling_window_seconds: float = 60.0
    automl_seconds: float = 0.2
    transform_seconds: float = 0.1
    container_start_timeout_seconds: float = 60.0
    invocation_timeout_seconds: float = 60.0
    multi_model_download_seconds: float = 0.0
    multi_model_load_seconds: float = 0.0
    multi_model_ready_wait_seconds: float = 60.0
    multi_model_capacity: float = 0.0
    multi_model_memory_mb: float = 0.0
    model_data_limit_mb: float = 10240.0
    model_data_limit_files: float = 100_000.0
    data_capture_seconds: float = 1.0
    async_request_ttl_seconds: float = 21600.0
    async_invocation_timeout_seconds: float = 900.0

    def change(self, values: Mapping[str, object]) -> None:
        """Set all of the given values, or none. Raises ValueError naming the wrong one."""
        names = {field.name for field in dataclasses.fields(self)}
        for name, value in values.items():
            if name not in names:
                raise ValueError(f"unknown setting {name!r}; known are {', '.join(sorted(names))}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                unit = "a number of seconds" if name.endswith("_seconds") else "a number"
                raise ValueError(f"setting {name!r} must be {unit} >= 0, not {value!r}")
        for name, value in values.items():
            setattr(self, name, float(str(value)))

    def as_json(self) -> dict[str, float]:
        return dataclasses.asdict(self)
