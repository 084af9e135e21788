"""The command-line application: commands, errors, exit codes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Final

import typer

from edgewright import __version__
from edgewright._extras import missing_extra
from edgewright._interrupts import insistent_interrupts
from edgewright.cli._bench import bench
from edgewright.cli._compress import compress
from edgewright.cli._device import device
from edgewright.cli._doctor import doctor
from edgewright.cli._export import export
from edgewright.cli._front import front, pick
from edgewright.cli._profile import profile
from edgewright.cli._report import report
from edgewright.cli._run import run
from edgewright.cli._verify import verify
from edgewright.errors import EdgewrightError, EdgewrightWarning, SettingsError, UsageError

_INTERRUPTED: Final = 130
# Click's ClickException, or the one of the vendored click in newer versions of typer.
_ClickError: Final[type[typer.BadParameter]] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="edgewright", no_args_is_help=True, add_completion=False, rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Make a trained PyTorch model fit an edge device: one file, measured on the runtime that "
         "will run it.",
    epilog="Exit codes: 0 success; 2 usage error; 3 budget not met; 4 metrics or outputs deviate; "
           "5 bad input; 6 missing extra or program.")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgewright {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                          help="Print the version.")] = False,
) -> None:
    del version


for _command in (compress, front, pick, profile, export, verify, run, bench, report, doctor):
    app.command()(_command)
app.add_typer(device, name="device")


def main() -> None:
    """Run the command line; an expected error prints one line and has its own exit code.

    Faults of settings print a line each.
    """
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("default", category=EdgewrightWarning)
    warnings.formatwarning = lambda message, *_: f"warning: {' '.join(str(message).split())}\n"
    logging.getLogger("torch._subclasses.fake_tensor").disabled = True  # it raises as well
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        with insistent_interrupts():
            code = app(standalone_mode=False)
        sys.stdout.flush()
    except EdgewrightError as error:
        lines = str(error).splitlines() if isinstance(error, SettingsError) else [str(error)]
        code = _report_error(*lines, code=error.exit_code)
    except _ClickError as error:
        error.show()
        code = UsageError.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except ModuleNotFoundError as error:
        missing = missing_extra(error, f"this command ({error.name})")
        if missing is None:
            raise
        code = _report_error(str(missing), code=missing.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code == _INTERRUPTED:  # newer versions of typer return it
        resumes = "; repeat the command to resume"
        _report_error("interrupted" + resumes * ("compress" in sys.argv[1:2]), code=code)
    sys.exit(code if isinstance(code, int) else 0)


def _report_error(*messages: str, code: int) -> int:
    for message in messages:
        typer.echo(f"error: {' '.join(message.split())}", err=True)
    return code
