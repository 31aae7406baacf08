"""Accuracy is off: the usual causes, tried one at a time on a few images and ranked by how well they explain it."""
