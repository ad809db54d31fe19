"""The inside of a container, which serves one unpacked model archive, or many.

::

    python -m airflow_sm_plugin.local.serving --model-dir D
    python -m airflow_sm_plugin.local.serving --multi-model

It speaks the contract of SageMaker's containers (``GET /ping``, ``POST /invocations``; :mod:`.hosted` tells that
of multi-model ones) on a loopback port that it picks itself and runs the archive's handlers as SageMaker's
inference toolkit does. It imports nothing heavy before a handler needs it, and ends by itself when its standard
input closes, so that a killed server leaves no container behind.
"""
