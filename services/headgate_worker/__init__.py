"""Runs a user's scoring script as one instance of a deployment, in the user's own environment.

It dials out to the bus with credentials of its own, calls the script's ``init()`` once and its
``run()`` for every request, says twice a second that it lives, and drains when told to stop.

Standard library only, Python 3.9 or newer: this package is put on the path of whatever environment
the model needs, and must neither need nor disturb anything there.
"""

__version__ = "0.1.0"
