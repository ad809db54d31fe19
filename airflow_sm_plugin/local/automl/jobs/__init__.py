"""AutoML jobs in the server.

``jobs`` has the operations. ``request`` reads both versions of the API into one shape; ``run`` fetches the data, starts
the training process, and keeps the job's record as its events come in; ``layout`` names the candidates and the places
of their results, ``candidates`` and ``step_jobs`` make the records of candidates and of the jobs that they name.

Read ``request``, ``run``, ``layout``.
"""
