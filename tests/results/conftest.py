"""The results files of the report's tests."""

from tests.report.conftest import document, read

__all__ = ["document", "read"]
