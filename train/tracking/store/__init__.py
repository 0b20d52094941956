"""Artifacts on this machine: their files, versions and aliases, and the runs that made them."""

from train.tracking.environment import home
from train.tracking.store.store import Store, files_below, hash_file, write_whole

__all__ = ["Store", "files_below", "hash_file", "home", "write_whole"]
