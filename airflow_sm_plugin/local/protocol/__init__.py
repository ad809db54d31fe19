"""From HTTP to calls, and back.

``environ`` reads a request; ``access`` decides whether its sender is permitted to drive the service, ``signatures``
whether it is signed. ``protocol`` parses SageMaker's calls with botocore's models and writes the answers, and
``validation`` checks them, member by member in ``request_members``. ``call_names`` names calls of any service for the
fault plan and the call log. ``answers`` has what goes back, ``errors`` the exceptions.

Read ``environ``, ``protocol``, ``answers``.
"""
