"""``python headgate_worker.pyz``: one instance, as the environment describes it."""

from __future__ import annotations

import sys

from headgate_worker.process import main

if __name__ == "__main__":
    sys.exit(main())
