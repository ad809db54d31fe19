"""AWS's wire protocols: from HTTP requests to calls, and from results to HTTP answers.

- ``environ``: reads a WSGI request.
- ``access``: decides whether a request is permitted: its host name, its page of origin, its signature.
- ``protocol``: parses SageMaker's calls with botocore's service models, and writes the answers.
- ``validation``: checks a call against the service model; ``request_members`` refuses members without an effect here.
- ``call_names``: names a call of any service, for the fault plan and the call log.
- ``answers``: the answer that goes to the client, in any service's protocol; ``errors``: the exceptions.

Read ``environ``, ``protocol``, ``answers``.
"""
