"""Inference code of a candidate's containers, packed into its ``model.tar.gz`` under ``code/``.

It imports nothing but numpy, joblib, scikit-learn and its own modules, which are packed beside it under names of their
own (see :mod:`airflow_sm_plugin.local.automl.training.worker`): an archive runs without this package.

``features`` transforms CSV rows into numbers (``tabular``), and labels back; ``algorithm`` predicts between the two;
``ensemble`` does all in one container. ``recordio`` is the format between the first two, ``responses`` reads the
headers and writes the selected keys.
"""
