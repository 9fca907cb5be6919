"""Gateway: Azure's REST shape in front of the services, and what is ours beside it.

Owns: nothing; every answer is asked from the services, uploads go to the object store.
Hears: HTTP. Says: commands and queries on the bus.
"""
