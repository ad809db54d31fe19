"""The embedded SageMaker: a real HTTP server to develop, demonstrate and test against.

Nothing in here imports Airflow, and nothing else in the package imports this: it runs from a virtual environment of
its own (extra ``local``). ``server`` starts it from Python, ``__main__`` from the command line.

A request comes in through ``front``, is read and named by ``protocol``, can meet a rule of ``faults``, and reaches the
handler of its operation (the registry is ``account.operations``) or moto. The handlers, by subject: ``models``,
``endpoints``, ``async_inference``, ``transform``, ``automl``, ``scaling``, ``catalogue`` (search and tags). They keep
records in ``account`` and run models in ``containers``, processes whose inside is ``serving``. ``stack`` starts a real
Airflow beside it, for the demo and the end-to-end tests.
"""
