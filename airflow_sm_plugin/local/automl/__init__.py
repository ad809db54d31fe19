"""Autopilot: jobs that train real models with scikit-learn.

``jobs`` has the operations and runs a job in the server; ``training`` is a process of its own that trains the
candidates; ``archive`` is the inference code that it packs into their ``model.tar.gz``.
"""
