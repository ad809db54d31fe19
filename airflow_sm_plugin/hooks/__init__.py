"""The only place that talks to AWS: control plane, runtime, result store."""
