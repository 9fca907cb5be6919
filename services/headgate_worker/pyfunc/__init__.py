"""MLflow models without a scoring script: how the worker loads them, asks them and answers.

``signature`` reads what the model wants, ``given`` shapes the JSON of a request after it,
``values`` makes of that what pandas and numpy have, and JSON of what they give back, ``schemas``
describes both, ``collected`` keeps both for monitoring, ``script`` is the script that users need
not write. Packages of the user's environment are imported when they are needed.
"""
