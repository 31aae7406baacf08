"""Measured numbers against published ones: parameters, FLOPs, accuracy, and the verdict on each."""
