"""SageMaker's resources as values: requests built from a DAG author's words, and descriptions judged. All is pure.

- ``containers`` → ``model``: container definitions, CreateModel with a name derived from its content, and the
  comparison with a model that has the name; ``model_refusals``: CreateModel's refusals as errors.
- ``model_packages``: which version of the Model Registry may become a model.
- ``endpoint_config``: production variants, the asynchronous section and CreateEndpointConfig, named by its content.
- ``endpoint_status``: what DescribeEndpoint means for a task that waits, its errors, and a deployment's next step.
- ``scaling``: arguments, policies and alarm of Application Auto Scaling for a variant.
- ``tags``: a user's tags, checked and spelled.

A spec's ``checked()`` raises InvalidRequest for a broken limit, ``parameters()`` spells the request. Names and owners'
tags come from ``core.names``, numbers and mappings that templates made text of are read by ``core.template_values``.
"""
