"""Data only: one TOML file a variant, and ``tables/`` with one file a family of key names."""
