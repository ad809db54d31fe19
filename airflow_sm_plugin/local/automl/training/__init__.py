"""The training process of an AutoML job.

The server starts ``worker`` through ``process``, which also replays a training that it has kept, with a plan from
``plan``, and reads events from its standard output. The worker reads the data (``dataset``), trains the candidates of
``recipes`` (``training``), and packs them. ``problems`` has problem types and metrics. Only ``plan``, ``problems`` and
``process`` are loaded by the server, which therefore needs no scikit-learn.
"""
