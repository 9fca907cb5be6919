"""Nodes of batch jobs: instances that take mini-batches from the work queue instead of requests.

``node`` is the life of one from job to job, ``crew`` its processes, ``shift`` what it does for one
job, ``agent`` what that is with mini-batches: takes them, stages inputs ahead, hands them to
processes, keeps results, reports, acknowledges last. The user's code sees files and a UNIX socket,
and neither the bus nor the object store.
"""
