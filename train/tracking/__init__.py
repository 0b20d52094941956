"""Artifacts, runs and the command line that every stage shares."""

from train.tracking.command import launch, parse, stage_name
from train.tracking.problem import Problem
from train.tracking.stage import MACHINE, Origin, Stage

__all__ = ["MACHINE", "Origin", "Problem", "Stage", "launch", "parse", "stage_name"]
