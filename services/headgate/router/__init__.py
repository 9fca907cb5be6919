"""Router: the scoring path between clients and instances.

Owns  nothing durable: its table is rebuilt from the routes bucket and from heartbeats.
Hears HTTP requests, ``hg.v1.score.<endpoint>``, ``hg.v1.hb.>``, the routes bucket, GetTraffic,
      what other routers have waiting (``hg.v1.load.*``).
Says  scoring frames to instances, answers to clients.
"""
