"""The training process of an AutoML job.

- ``plan``: the plan that the server gives to the process, the events that the process reports, and the problem types
  with their metrics.
- ``process``: starts the process and reads its events; or repeats the events of an equal, cached training.
- ``worker``: the process's program. It reads the data with ``dataset``, trains the candidates of ``recipes`` with
  ``training``, and packs their archives.

The server imports only ``plan`` and ``process``, and therefore needs no scikit-learn. Read ``plan``, ``worker``.
"""
