"""What goes into a candidate's ``model.tar.gz`` under ``code/``: the three containers' inference code.

It imports nothing but numpy, joblib and scikit-learn, and its own modules, which are packed beside it under
names of their own (see :mod:`airflow_sm_plugin.local.automl.training.worker`): an archive runs without this package.
"""
