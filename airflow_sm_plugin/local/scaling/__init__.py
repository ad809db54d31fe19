"""Application Auto Scaling of endpoint variants.

Moto stores scalable targets and policies, but does not act on them. ``scaling`` polls them in a background thread:
it publishes the variants' metrics to CloudWatch, sets the state of alarms, and scales. ``scaling_policies`` computes
how many instances a policy asks for. ``read_metrics`` publishes endpoints' metrics when a client reads them.
``scaling`` also answers DescribeScalingActivities, which moto lacks.

Read ``scaling``, then ``scaling_policies``.
"""
