"""Models and the model registry.

``models`` has CreateModel and its checks; ``model_packages`` has packages and their groups, of which models can be
made.
"""
