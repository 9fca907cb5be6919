"""The client of the REST API: what the command line, tests and other programs use.

``async with Client(find_target(...)) as client: await client.get_endpoint("digits")``
"""

from headgate.client.api import Client, Found, Started
from headgate.client.target import Target, find_target

__all__ = ["Client", "Found", "Started", "Target", "find_target"]
