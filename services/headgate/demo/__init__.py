"""The demonstration: boots Headgate, deploys two trained models, sends real images, and proves
what happened. ``python -m headgate.demo`` (``make demo``).

It is a client like any other: the command line for changes, HTTPS for scoring, and the bus for
figures and events. It imports no service.
"""
