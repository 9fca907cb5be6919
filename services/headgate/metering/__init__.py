"""Counts what is used, exactly, and what it costs; keeps Azure's metrics by the minute.

Owns: the ledger of requests, the times of instances, prices, budgets, minutes of metrics.
Hears: the usage stream, instance events, load reports, heartbeats.
Says: ``BudgetAlerted``.
Answers: ``GetCosts``, ``PutBudget``, ``DeleteBudget``, ``ListBudgets``, ``QueryMetrics``.

``core`` decides what is new and which hours cost what, ``periods`` what a budget's period is;
``intake`` takes the streams in exactly once. ``minutes`` gathers reports, ``metric_values`` makes
metrics of them.
"""
