"""Autoscaler: changes the number of instances, by rules, by schedules, by the load itself.

Owns  autoscale settings, the decisions of a month, and when each deployment was last changed.
Hears the commands and queries of ``headgate_contracts.autoscale``, load reports, heartbeats.
Says  ``ScaleDeployment`` to the registry, and one event for every decision that changes something
      or holds a change back.

What is known lives in memory: metrics are gathered while they are reported. After a restart a
window counts when it is full again, and until then nothing is taken away.
"""
