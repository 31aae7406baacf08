"""Accuracy on labelled images: the engine, its predictions, and what they add up to."""
