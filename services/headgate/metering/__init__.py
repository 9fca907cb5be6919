"""Counts what is used, exactly, and what it costs.

Owns: the ledger of requests, the times of instances, prices, budgets.
Hears: the usage stream, instance events.
Says: ``BudgetAlerted``.
Answers: ``GetCosts``, ``PutBudget``, ``DeleteBudget``, ``ListBudgets``.

``core`` decides what is new and which hours cost what, ``periods`` what a budget's period is;
``intake`` takes the streams in exactly once.
"""
