"""Everything that crosses the bus: messages, subjects, streams, errors, limits. Nothing else.

This package needs only the standard library and pydantic, and knows no service.
"""
