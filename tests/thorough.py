"""Whether tests try all that there is (``make thorough``), or a fair sample of it (``make test``)."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("OPHYS_THOROUGH") == "1"
