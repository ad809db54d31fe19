"""The Autopilot export: from a finished AutoML job to a model. Everything here is pure; the operator makes the calls.

1. ``job``: ``job_state`` judges the job's status, for the operator, its blocking wait and its trigger.
   ``check_completed`` raises an error for every status but Completed.
2. ``candidates``: ``CandidateChoice`` reads the operator's arguments. ``best_candidate``, or ``candidate_at`` a rank,
   chooses from DescribeAutoMLJobV2 and ListCandidatesForAutoMLJob; ``check_objective`` checks the required objective;
   ``containers_of`` has the container definitions of a model, ``tags_of`` its tags.

Calls of AWS are in ``hooks.automl``, response keys in ``core.response_keys``, CreateModel in ``resources.model`` and
``hooks.models``.
"""
