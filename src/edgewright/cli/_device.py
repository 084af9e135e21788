"""``edgewright device``."""

from __future__ import annotations

from typing import Annotated

import typer

device = typer.Typer(help="Measure on the device itself.", no_args_is_help=True)


@device.command()
def serve(
    host: Annotated[str, typer.Option(
        help="Address to listen on; one that others can reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8765,
    token: Annotated[str | None, typer.Option(
        help="What clients must send. Others on this machine can see an option; better set the "
             "environment variable EDGEWRIGHT_DEVICE_TOKEN, here and there.")] = None,
) -> None:
    """Run the agent that edgewright bench --device measures on, until it is interrupted.

    It measures one thing at a time, and listens to this machine alone unless
    told otherwise. Nothing is encrypted: over a network that others share,
    reach it through an SSH tunnel.

    Example:
      edgewright device serve
      EDGEWRIGHT_DEVICE_TOKEN=... edgewright device serve --host 0.0.0.0
    """
    from edgewright.device import serve as serve_agent

    serve_agent(host=host, port=port, token=token, announce=typer.echo)
