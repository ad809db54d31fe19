"""The program inside a container, which serves an unpacked model archive, or many.

::

    python -m airflow_sm_plugin.local.serving --model-dir D
    python -m airflow_sm_plugin.local.serving --multi-model

It implements the contract of SageMaker's containers (``GET /ping``, ``POST /invocations``; for multi-model containers
see ``hosted``) on a free loopback port, and runs the archive's handlers as SageMaker's inference toolkit does. Heavy
imports wait until a handler needs them. The program ends when its standard input closes, so that a server that
crashes leaves no container behind.

Read ``__main__`` (HTTP), ``handlers`` (the archive's functions and their context), ``codecs`` (the default functions);
for many models ``hosted``, and ``isolation``, which separates their modules.
"""
