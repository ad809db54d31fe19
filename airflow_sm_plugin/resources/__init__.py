"""SageMaker's resources as values: requests built from operators' arguments, and descriptions judged. All is pure.

Data flows from ``operators`` through a spec to ``hooks``: ``checked()`` raises InvalidRequest for a broken limit,
``parameters()`` builds the request. Read in this order:

- ``tags``: a user's tags, checked and spelled. ``made_in``: our tag that names the task which made a resource.
- ``containers`` → ``model``: container definitions, CreateModel with a name derived from its content, the comparison
  with an existing model of that name, and CreateModel's refusals as errors.
- ``model_packages``: the version of the Model Registry that becomes a model.
- ``endpoint_config``: production variants, the asynchronous section, CreateEndpointConfig with a name derived likewise.
- ``endpoint_status``: DescribeEndpoint's meaning for a task that waits, its errors, and a deployment's next step.
- ``scaling``: arguments, policies and alarm of Application Auto Scaling for a variant.

Names and owners' tags come from ``core.names``; ``core.template_values`` reads rendered numbers and mappings.
"""
