"""Counts what is used, exactly, and what it costs; keeps Azure's metrics by the minute.

Owns: the ledger of requests, the times of instances, prices, budgets, minutes of metrics,
objectives of endpoints, alert rules and their deliveries.
Hears: the usage stream, events, load reports, heartbeats.
Says: ``BudgetAlerted``, ``SlaBurning``, ``SlaRecovered``.
Answers: ``GetCosts``, ``PutBudget``, ``DeleteBudget``, ``ListBudgets``, ``QueryMetrics``,
``GetQuotaUse``; what ``headgate_contracts.sla`` and ``headgate_contracts.alerts`` ask.

``core`` decides what is new and which hours cost what, ``periods`` what a budget's period is,
``sla_core`` what counts for a service level, ``alert_core`` who is told; ``intake`` takes the
streams in exactly once.
``minutes`` gathers reports, ``metric_values`` makes metrics of them.
"""
