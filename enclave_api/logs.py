"""Structured logs: one JSON object a line on stderr. Nothing about data, models or subjects is ever logged."""

import logging
import sys

import structlog

LEVELS = ("debug", "info", "warning", "error")


def set_up_logs(level: str = "info") -> None:
    """Sends structlog's events to stderr as JSON lines."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
