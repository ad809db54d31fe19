"""Operators: what a DAG file imports, one file per noun.

``autopilot.py`` and ``model.py`` make a SageMaker model; ``endpoint.py`` deploys it (its arguments are read in
``deployment_arguments.py``), ``autoscaling.py`` scales it, ``endpoint_deletion.py`` deletes it. ``invoke.py`` invokes
in real time, ``invoke_async.py`` asynchronously, ``async_batch.py`` for many inputs; ``multi_model.py`` gathers the
three operators of a batch through a multi-model endpoint.

Each ``__init__`` only stores, since templates are not rendered yet; ``execute()`` reads the arguments, refuses those
that cannot be before anything is paid, and hands over to its leg (``endpoints/``, ``async_inference/``,
``multi_model/``, ``autopilot/``). Legs, hooks and triggers are imported there, so that a DAG file parses fast.
``base.py``, above this folder, has what all share: AWS arguments, templates, errors that are not retried. Every wait is
a trigger's, deferred or not.
"""
