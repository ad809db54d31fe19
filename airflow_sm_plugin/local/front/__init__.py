"""The HTTP front of the embedded SageMaker.

- ``http_channel``: subclasses of waitress that correct its handling of connections, headers and threads.
- ``app``: the WSGI application. It refuses a request, or has it answered by a handler, by ``control``, by ``pages`` or
  by moto; it applies the fault plan and logs the call.
- ``authorization``: checks a call against the policies of its access key.
- ``control``: the service's own interface below ``/_embedded/``: health, settings, faults, calls, endpoints, models,
  policies.

Read ``app``.
"""
