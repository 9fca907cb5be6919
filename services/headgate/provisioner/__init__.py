"""Starts, watches and stops the processes that run users' models.

Owns: the observed instances and, as last heard from the registry, the wanted deployments; code,
    models and environments as laid out on this machine; what instances have collected, until
    it is in the object store.
Hears: deployment events (as hints), heartbeats.
Says: instance, collection and environment events, rows of the console log, ``ReportDeployment``
    and ``RefreshDeployment`` to the registry, and the heartbeat ``lost`` of an instance whose
    process has ended.
Answers: ``ListInstances``, ``GetLogs``, ``GetCapacity``, ``RefreshEnvironments``, ``GetRefresh``.

``core`` decides from values; a ``keeper`` per deployment carries the decisions out through a
driver; the ``reconciler`` feeds the keepers. Instances outlive this service: it adopts them again.
"""
