"""The policies by access key, and the permissions that calls with it needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.local.iam.policies import IdentityPolicy, Permission


@dataclass
class _Identity:
    document: object
    policy: IdentityPolicy
    needed: dict[tuple[object, ...], dict[str, Any]] = field(default_factory=dict)


class AccessPolicies:
    """The policies of access keys. A key without one is permitted every call. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._identities: dict[str, _Identity] = {}

    def put(self, access_key: str, document: object) -> None:
        """Set a key's policy, or the list of its policies, and forget what it needed. Raises BadPolicy."""
        identity = _Identity(document, IdentityPolicy.read(document))
        with self._lock:
            self._identities[access_key] = identity

    def remove(self, access_key: str) -> None:
        with self._lock:
            self._identities.pop(access_key, None)

    def clear(self) -> None:
        with self._lock:
            self._identities.clear()

    def restricts(self, access_key: str) -> bool:
        with self._lock:
            return access_key in self._identities

    def missing(self, access_key: str, permission: Permission) -> str | None:
        """Explain why the key lacks a permission, in AWS's words; None where it has it. The permission is recorded."""
        with self._lock:
            identity = self._identities.get(access_key)
            if identity is None:
                return None
            allowed = identity.policy.allows(permission)
            row = {
                "action": permission.action,
                "resource": permission.resource,
                "context": dict(permission.context),
                "allowed": allowed,
            }
            identity.needed[permission.action, permission.resource, *permission.context.items()] = row
        if allowed:
            return None
        action = permission.action
        why = (
            "with an explicit deny in an identity-based policy"
            if identity.policy.denies(permission)
            else f"because no identity-based policy allows the {action} action"
        )
        resource = f'"{permission.resource}"' if action.startswith("s3:") else permission.resource
        return f"is not authorized to perform: {action} on resource: {resource} {why}"

    def as_json(self) -> Mapping[str, object]:
        """Build the answer of ``/_embedded/policies``: each access key's policy, and what it needed."""
        with self._lock:
            return {
                key: {"policy": identity.document, "needed": list(identity.needed.values())}
                for key, identity in self._identities.items()
            }
