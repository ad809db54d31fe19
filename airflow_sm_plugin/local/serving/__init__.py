"""The inside of a container, which serves one unpacked model archive, or many.

::

    python -m airflow_sm_plugin.local.serving --model-dir D
    python -m airflow_sm_plugin.local.serving --multi-model

It speaks the contract of SageMaker's containers (``GET /ping``, ``POST /invocations``; of multi-model ones see
:mod:`.hosted`) on a loopback port that it picks itself and runs the archive's handlers as SageMaker's inference
toolkit does. It imports nothing heavy before a handler needs it, and ends by itself when its standard input closes,
so that a killed server leaves no container behind.

Read ``__main__`` (HTTP), ``handlers`` (the archive's functions and their context), ``codecs`` (the default
ones); for many models ``hosted`` and ``isolation``, which keeps their modules apart.
"""
