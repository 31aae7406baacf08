"""The Python API's functions, one short file each; they are reached as ``from r2convert import ...``."""
