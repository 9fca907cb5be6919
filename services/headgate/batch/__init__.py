"""Runs batch jobs: cuts inputs into mini-batches, hands them out, commits results exactly once.

Owns: jobs, their mini-batches and results until the output is written; the work queue's consumers.
Hears: node events (as hints).
Says: job events; mini-batches into the work queue; ``StartNode``, ``ReleaseNode`` and ``StopNode``
    to the provisioner.
Answers: ``SubmitJob``, ``CancelJob``, ``PauseJob``, ``ResumeJob``, ``RedriveDeadLetters``,
    ``GetJob``, ``ListJobs``, ``ListDeadLetters``, ``GetMiniBatches``, ``GetFiles``,
    ``ReportMiniBatches``.

``core`` decides from values and ``cutting`` cuts; a ``driver`` per job lists, publishes and
finishes; the ``pool`` shares nodes between jobs, ``rooming`` what the machine has room for, and
``warm`` says which stay for the next one. The
database is the truth: whatever dies, it says where to go on, and a mini-batch that runs twice is
committed once.
"""
