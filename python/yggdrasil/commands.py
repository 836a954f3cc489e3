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


audits = App(name="audit", help="The trial balance of all books; `verify`: the chains of the audit.")
app.command(audits)


@audits.default
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


@audits.command(name="verify")
def verify_audit(
    *, heads: list[Path] | None = None, data_dir: Path | None = None, json: bool = False
) -> None:
    """Verify every chain of the audit and every signed head; exit 1 and name the first bad row of each chain
    that is not sound. Works beside a running server.

    Parameters
    ----------
    heads
        A file of signed heads: once for each node, and each part of a rotated file. By default this node's.
    data_dir
        The data directory of the server.
    json
        One JSON object instead of lines.
    """
    from yggdrasil.admin.audit import verify as run
    from yggdrasil.config import load_settings

    sys.exit(asyncio.run(run(load_settings(data_dir=data_dir), heads or [], json=json)))


@app.command
def explain(request: str, /, *, reason: str, data_dir: Path | None = None, json: bool = False) -> None:
    """Print the trace of a request: states, attempts, decision card, holds, ledger rows. Works beside a
    running server. The networks it belongs to can read that it was opened, and the reason.

    Parameters
    ----------
    request
        The id of the request, of its provider's side, or of one of its attempts.
    reason
        Why it is opened, for the networks concerned; name nobody in it.
    data_dir
        The data directory of the server.
    json
        One JSON object instead of lines.
    """
    from yggdrasil.admin.explain import explain as run
    from yggdrasil.config import load_settings

    asyncio.run(run(load_settings(data_dir=data_dir), request, reason=reason, json=json))


operators = App(name="operator", help="The people who run the server: make, list and revoke them.")
app.command(operators)


@operators.command(name="create")
def create_operator(name: str, /, *, data_dir: Path | None = None) -> None:
    """Make an operator, and print the credential for /api/v1/admin, this once.

    Parameters
    ----------
    name
        How colleagues know this person.
    data_dir
        The data directory of the server.
    """
    from yggdrasil.admin.operators import create
    from yggdrasil.config import load_settings

    asyncio.run(create(load_settings(data_dir=data_dir), name))


@operators.command(name="list")
def list_operators(*, data_dir: Path | None = None) -> None:
    """Print all operators, those too whose credential was revoked.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    """
    from yggdrasil.admin.operators import show
    from yggdrasil.config import load_settings

    asyncio.run(show(load_settings(data_dir=data_dir)))


@operators.command(name="revoke")
def revoke_operator(operator: str, /, *, data_dir: Path | None = None) -> None:
    """End an operator's credential at once.

    Parameters
    ----------
    operator
        The operator's id.
    data_dir
        The data directory of the server.
    """
    from yggdrasil.admin.operators import revoke
    from yggdrasil.config import load_settings

    asyncio.run(revoke(load_settings(data_dir=data_dir), operator))


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
    print(f"  API reference   {base}/docs")
    print("  try it          yggdrasil quickstart", flush=True)
