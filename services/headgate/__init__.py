"""Headgate: online and batch endpoints for machine-learning models, on your own machines.

Independent services on a NATS bus: registry, provisioner, router and gateway.
"""

__version__ = "0.1.0"
