"""Torch's export without the page that it prints about what it refuses."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Drop torch's log and its print of the graph so far; whatever else is written, stays.

    What failed is in the exception, and an error of one line says it.
    """
    loggers = [logging.getLogger(name) for name in sorted(logging.root.manager.loggerDict)
               if name.partition(".")[0] == "torch"]  # a filter is not asked about those below
    written = io.StringIO()
    for logger in loggers:
        logger.addFilter(_is_no_warning)
    graph = ""
    try:
        with contextlib.redirect_stderr(written), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* assigned during export")
            yield
    except BaseException as error:
        graph = str(getattr(error, "partial_fx_graph", ""))  # what torch prints on the way out
        raise
    finally:
        for logger in loggers:
            logger.removeFilter(_is_no_warning)
        text = written.getvalue()
        sys.stderr.write(text.replace(f"{graph}\n", "") if graph else text)


def _is_no_warning(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING
