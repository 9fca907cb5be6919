"""The registry keeps what users asked for and how far it has come: the truth of the system.

Owns
    endpoints, deployments, models, environments, code versions, keys and operations, in its own
    tables (SQLite or PostgreSQL), and the routing tables that follow from them.
Hears
    the commands and queries of ``headgate_contracts.registry``; ``ReportDeployment`` is the
    provisioner's word on how a deployment fares.
Says
    one event for each change, from the outbox into the event stream, and one ``Route`` per
    endpoint in the bucket ``hg_routes``.

A command is one transaction: load the endpoint with its deployments, decide (``core``, pure),
store rows, operation and events together, answer. Then two loops carry on what was stored: the
outbox publishes the events, the relay rewrites the routes from the rows.
"""
