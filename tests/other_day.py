"""Runs a command of this project on another day: `other_day.py DAYS PYTHON -m enclave_api ...`.

The server is the real one in a process of its own; only the clock that its composition root hands down is ahead.
"""

import sys
from datetime import UTC, datetime, timedelta

from enclave_api import app
from enclave_api.cli.main import main

if __name__ == "__main__":
    ahead = timedelta(days=int(sys.argv[1]))
    app.utc_now = lambda: datetime.now(UTC) + ahead
    sys.argv = [sys.argv[4], *sys.argv[5:]]
    main()
