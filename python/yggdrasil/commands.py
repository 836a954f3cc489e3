"""The commands of the server, beside those of a device. Each imports what it needs when it runs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from yggdrasil import __version__
from yggdrasil.vedrfolnir.commands import app as device_app

app = App(
    name="yggdrasil", help="The central server of the Edda network, and its client.", version=__version__
)
app.update(device_app)


@app.command
def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    behind_proxy: Annotated[bool | None, Parameter(negative="")] = None,
) -> None:
    """Run the server until Ctrl-C. Other settings come from YGGDRASIL_… variables or YGGDRASIL_CONFIG.

    Parameters
    ----------
    host
        Address to listen on; beyond loopback it needs TLS or --behind-proxy.
    port
        TCP port; 8480 by default.
    data_dir
        Where the embedded database and the development keys lie; ./.yggdrasil by default.
    behind_proxy
        A proxy in front ends TLS.
    """
    import uvloop

    from yggdrasil.config import load_settings
    from yggdrasil.server import serve as run

    settings = load_settings(host=host, port=port, data_dir=data_dir, behind_proxy=behind_proxy)
    uvloop.run(run(settings, ready=_greet))


@app.command
def audit(*, data_dir: Path | None = None, json: bool = False) -> None:
    """Print the trial balance of all books; exit 1 if they do not balance. Works beside a running server.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    json
        One JSON object instead of lines.
    """
    from yggdrasil.admin.audit import audit as run
    from yggdrasil.config import load_settings

    sys.exit(asyncio.run(run(load_settings(data_dir=data_dir), json=json)))


@app.command
def quickstart(*, server: str = "http://127.0.0.1:8480", email: str = "quickstart@example.org") -> None:
    """On a development server: make a user, a device, a sandbox method, a balance and an API key.

    Parameters
    ----------
    server
        The server's address.
    email
        The new user's address; the code is read from the server's development mail page.
    """
    from yggdrasil.vedrfolnir.quickstart import quickstart as run

    asyncio.run(run(server, email))


def _greet(settings: Any) -> None:
    base = settings.public_url or f"http://{settings.host}:{settings.port}"
    print(f"Yggdrasil listens at {base}", flush=True)
    if settings.production:
        return
    if settings.smtp_url is None and not settings.behind_proxy:
        print(f"  sign-in codes   {base}/dev/mail (also printed here)")
    print(f"  OpenAPI         {base}/schema/openapi.json")
    print("  try it          yggdrasil quickstart", flush=True)
