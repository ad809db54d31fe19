"""Autopilot: jobs that train real models with scikit-learn.

- ``jobs``: the operations, and the course of a job. A job starts a training process, and reads its events.
- ``training``: the program of that process, which trains the candidates. Only it needs scikit-learn.
- ``archive``: the inference code that the process packs into each candidate's ``model.tar.gz``.

Read ``jobs``, ``training``, ``archive``.
"""
