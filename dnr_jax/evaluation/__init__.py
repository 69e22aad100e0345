"""Evaluation: scores of videos over several views, metrics of scores, and predictions for single files."""
