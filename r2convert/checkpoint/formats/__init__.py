"""Containers: one module each, its reader and writer side by side."""
