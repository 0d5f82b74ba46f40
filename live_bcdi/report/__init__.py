"""A report of a result: one HTML file that asks nothing of the network, and a PDF, from the same sections."""

from .report import write_report

__all__ = ["write_report"]
