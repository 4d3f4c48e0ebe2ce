"""Sets a process's idea of the time apart from everybody else's, by FAULTS_CLOCK_OFFSET seconds."""

import os
import time

_offset = float(os.environ.get("FAULTS_CLOCK_OFFSET", "0"))
_time, _time_ns = time.time, time.time_ns
if _offset:
    time.time = lambda: _time() + _offset
    time.time_ns = lambda: _time_ns() + int(_offset * 1e9)
