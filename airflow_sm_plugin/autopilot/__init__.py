"""The Autopilot export: from a finished AutoML job to a model. Everything here is pure; the operator makes the calls.

1. ``job``: ``job_state`` judges the job's status, for the operator, its blocking wait and its trigger.
   ``check_completed`` turns every status but Completed into an error.
2. ``candidates``: ``CandidateChoice`` reads the operator's arguments. ``best_candidate``, or ``candidate_at`` a rank,
   chooses from DescribeAutoMLJobV2 and ListCandidatesForAutoMLJob; ``check_objective`` compares with what is required;
   ``containers_of`` returns the container definitions of a model, ``tags_of`` its tags.

Calls of AWS are in ``hooks.automl``, response keys in ``core.response_keys``, CreateModel in ``resources.model`` and
``hooks.models``.
"""
