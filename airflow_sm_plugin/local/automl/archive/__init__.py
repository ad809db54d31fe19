"""Inference code of a candidate's containers, packed into its ``model.tar.gz`` under ``code/``.

It imports only numpy, joblib, scikit-learn and modules of this folder, which are packed with it under other names (see
``training/worker``): an archive runs without this package.

A tuned candidate has three containers: ``features`` converts CSV rows to numbers (with ``tabular``), ``algorithm``
predicts, and ``features`` again converts class numbers to labels. The first two exchange ``recordio``. A candidate of
ensembling has a single container, ``ensemble``. ``responses`` reads the requests' headers and writes the selected
response keys.

Read ``tabular``, ``features``, ``algorithm``, ``ensemble``.
"""
