"""Artifacts, runs and the command line that every stage shares."""

from train.tracking.command import Command, stage_command
from train.tracking.origin import LATER, MACHINE, Origin
from train.tracking.problem import Problem
from train.tracking.stage import Input, Stage

__all__ = ["LATER", "MACHINE", "Command", "Input", "Origin", "Problem", "Stage", "stage_command"]
