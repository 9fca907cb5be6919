"""Answers questions about the log tables: requests, lines of deployments, events of instances.

Owns: the rows of the three tables, for as long as the settings say.
Hears: the log stream (traffic and console rows), instance events.
Says: nothing.
Answers: ``QueryLogs``.

``where`` reads the filter language, ``core`` decides what becomes a row and what is forgotten,
``sql`` turns a question into SQL, ``intake`` takes the streams in exactly once.
"""
