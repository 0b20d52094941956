"""python -m tests.loopback PORT: a server to try things by hand. It ends with the process that started it."""

import os
import sys
import time

from tests.loopback import Server

with Server(int(sys.argv[1])) as server:
    print(" ".join(f"{name}={value}" for name, value in server.environment.items()), flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
