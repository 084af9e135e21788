"""``edgewright device``."""

from __future__ import annotations

from typing import Annotated

import typer

device = typer.Typer(help="Measure on the device itself.", no_args_is_help=True)


@device.command()
def serve(
    host: Annotated[str, typer.Option(
        help="Address to listen on; an address that others can reach needs a token.")]
        = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")] = 8765,
    token: Annotated[str | None, typer.Option(
        help="Token that clients must send. Other users of this machine can see options; prefer "
             "the environment variable EDGEWRIGHT_DEVICE_TOKEN, here and on the client.")] = None,
) -> None:
    """Run the agent for edgewright bench --device until it is interrupted.

    It runs one measurement at a time, and by default listens on this machine
    only. Nothing is encrypted: on a shared network, use an SSH tunnel.

    Example:
      edgewright device serve
      EDGEWRIGHT_DEVICE_TOKEN=... edgewright device serve --host 0.0.0.0
    """
    from edgewright.device import serve as serve_agent

    serve_agent(host=host, port=port, token=token, announce=typer.echo)
