"""Artifacts on this machine: their files, versions and aliases, and the runs that made them."""

from train.tracking.environment import home
from train.tracking.store.store import Store, hash_file, write_whole

__all__ = ["Store", "hash_file", "home", "write_whole"]
