"""What others have written, shown on a terminal or in a log: paths that clients ask for, and
descriptions, tags and error texts of a workspace that many write in, must not move the cursor, set
titles or turn the text of others around."""

from __future__ import annotations

import re

# C0 and C1 but for tabs and ends of lines, and what changes the direction of a text.
_STEERING = re.compile(r"(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text with control characters as JSON writes them: ``\\u001b``."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
