"""Checks as people and scripts see them: tables and JSON."""
