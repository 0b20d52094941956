"""A server for 127.0.0.1 that speaks as much of W&B's protocol as the client of the pinned version really uses.

It tests the contract of the client, not W&B's servers: what those do beyond it is known from their documentation alone.
"""

from tests.loopback.server import Fault, Server
from tests.loopback.state import ENTITY

__all__ = ["ENTITY", "Fault", "Server"]
