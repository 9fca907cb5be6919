"""Counts what is used, exactly, and what it costs; keeps Azure's metrics by the minute.

Owns: the ledger of requests, the times of instances, prices, budgets, minutes of metrics,
objectives of endpoints.
Hears: the usage stream, instance events, load reports, heartbeats.
Says: ``BudgetAlerted``, ``SlaBurning``, ``SlaRecovered``.
Answers: ``GetCosts``, ``PutBudget``, ``DeleteBudget``, ``ListBudgets``, ``QueryMetrics``,
``GetQuotaUse``, ``GetSla``, ``PutObjective``, ``DeleteObjective``.

``core`` decides what is new and which hours cost what, ``periods`` what a budget's period is,
``sla_core`` what counts for a service level; ``intake`` takes the streams in exactly once.
``minutes`` gathers reports, ``metric_values`` makes metrics of them.
"""
