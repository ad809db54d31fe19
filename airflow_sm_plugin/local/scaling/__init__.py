"""Application Auto Scaling of endpoint variants.

Moto keeps targets and policies. ``scaling`` polls them, publishes metrics, sets alarms and scales, and answers
DescribeScalingActivities; ``scaling_policies`` decides how many instances a policy asks for.
"""
