"""Injected faults, and the texts of AWS's errors.

- ``fault_rules``: a rule: the calls that it matches, and the error that it answers. Users write rules in JSON.
- ``faults``: the fault plan: the rules in order. ``front/app`` asks it for each call.
- ``outcomes``: the ends that users set for the next deployments of an endpoint.
- ``recorded``: the error answers of AWS, from ``recorded_answers.json``. Handlers raise them, and rules can name them.

Read ``recorded``, ``fault_rules``, ``faults``.
"""
