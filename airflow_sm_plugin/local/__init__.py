"""The embedded SageMaker: an HTTP server for development, demonstrations and tests.

It imports no Airflow, and nothing else in the package imports it: it has the extra ``local``, and runs from a virtual
environment of its own. ``server`` starts it from Python, ``__main__`` from the command line.

A request is received by ``front``, and parsed by ``protocol``. A rule of ``faults`` can answer it, or a policy of
``iam`` refuse it. Else the handler of its operation answers (the registry is ``account.operations``), or moto. The
handlers, by subject: ``models``, ``endpoints``, ``async_inference``, ``transform``, ``automl``, ``scaling``,
``catalogue`` (search and tags). They store records in ``account``, and run models in ``containers``, processes with the
program ``serving``. ``pages`` shows all that to people. ``stack`` starts a real Airflow beside the server, for the demo
and the end-to-end tests. ``pytest_plugin`` is a fixture for users' tests.

Read ``server``, ``front``, ``protocol``, ``account``, then a subject.
"""
