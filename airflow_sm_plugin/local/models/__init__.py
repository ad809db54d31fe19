"""Models and the model registry.

- ``models``: the operations on models, and CreateModel's checks: its containers, its role, its data in S3.
- ``model_packages``: the operations on model packages and their groups. CreateModel copies the containers of a package
  that it names.

Endpoints, transform jobs and AutoML jobs read a model's record with ``models.model_called``.
"""
