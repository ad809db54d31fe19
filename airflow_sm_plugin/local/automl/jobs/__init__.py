"""AutoML jobs in the server.

- ``jobs``: the operations on AutoML jobs.
- ``request``: converts the requests of both API versions to the same class.
- ``run``: fetches the data, starts the training process, and updates the job's record with each of its events.
- ``layout``: the names of the candidates, the locations of their results, and their containers.
- ``candidates``: the records of candidates; ``step_jobs``: the records of the jobs that are a candidate's steps.

Read ``request``, ``run``, ``layout``.
"""
