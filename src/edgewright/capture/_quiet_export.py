"""Running `torch.export` without the log that it prints when it fails."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def silence_export() -> Iterator[None]:
    """Suppress torch's warnings and its print of the partial graph, but no other output.

    The exception has the reason of a failure, and it is reported as an error of one line.
    """
    loggers = [logging.getLogger(name) for name in sorted(logging.root.manager.loggerDict)
               if name.partition(".")[0] == "torch"]  # filters do not apply to child loggers
    written = io.StringIO()
    for logger in loggers:
        logger.addFilter(_is_below_warning)
    graph = ""
    try:
        with contextlib.redirect_stderr(written), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* assigned during export")
            yield
    except BaseException as error:
        graph = str(getattr(error, "partial_fx_graph", ""))  # torch prints it when it fails
        raise
    finally:
        for logger in loggers:
            logger.removeFilter(_is_below_warning)
        text = written.getvalue()
        sys.stderr.write(text.replace(f"{graph}\n", "") if graph else text)


def _is_below_warning(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING
