"""Loaded by the process that stages are forked from: with the first figure plotly loads the 190 modules of a layout."""

from train.tracking.panels import figure

figure("").to_json()
