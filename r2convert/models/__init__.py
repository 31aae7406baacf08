"""The reference networks: every variant of the catalogue, built from its facts, with ``mm`` names."""
