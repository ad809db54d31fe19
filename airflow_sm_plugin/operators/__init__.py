"""Operators, which a DAG file imports.

``autopilot.py`` and ``model.py`` create a SageMaker model; ``endpoint.py`` deploys it, ``autoscaling.py`` scales it,
``endpoint_deletion.py`` deletes it, ``idle_endpoints.py`` deletes those that are no longer invoked. ``invoke.py``
invokes in real time, ``invoke_async.py`` asynchronously, ``async_batch.py`` with many inputs; their base is
``invocation.py``. ``multi_model.py`` plans a batch through a multi-model endpoint and merges its reports,
``multi_model_batch.py`` invokes it.

Read ``../base.py`` first: AWS arguments, templates, waits, errors that are not retried. Each ``__init__`` only stores,
since templates are not rendered yet. ``execute()`` reads the arguments (``arguments.py`` has the readers that several
operators share), checks them before anything costs money, and calls its leg (``endpoints/``, ``async_inference/``,
``multi_model/``, ``autopilot/``). Legs, hooks and triggers are imported inside of functions, so that a DAG file parses
fast. Every wait runs a trigger, in the triggerer or in the task's own process.
"""
