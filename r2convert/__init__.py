"""r2convert: convert Res2Net checkpoints between layouts and verify them against the published numbers."""

from r2convert.version import __version__

__all__ = ["__version__"]
