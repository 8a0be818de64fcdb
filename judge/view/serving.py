"""The server on a port of this machine, until somebody says that it is enough."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from judge.errors import ArenaJudgeError

if TYPE_CHECKING:
    from judge.view.browsing import Browser

# Waiting for a page that is still being sent; labels are saved before they are answered.
_GRACE_SECONDS = 2


def serve(
    browser: Browser, host: str, port: int, announce: Callable[[str], None], *, show: bool
) -> None:
    """Serves the page until an interrupt.

    Args:
        browser: what is known of the battles.
        host: the address to listen on.
        port: 0 for any free one.
        announce: is given the page's address once it can be asked for.
        show: open the address in a web browser, where there is one.

    Raises:
        ArenaJudgeError: the address cannot be listened on.
    """
    import uvicorn

    from judge.view.app import LOOPBACK, create_app

    token = secrets.token_urlsafe(24)
    # An interrupt is how a server ends; uvicorn closes what is open and passes it on.
    with _listening(host, port) as listener, suppress(KeyboardInterrupt):
        hosts = LOOPBACK | {host.lower()} if _is_loopback(host) else None
        app = create_app(browser, token, hosts)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        address = f"http://{_shown(host)}:{listener.getsockname()[1]}/#token={token}"
        announce(address)
        if show and can_show():
            _open(address)
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise ArenaJudgeError(
                f"port {port} is taken; leave --port out for a free one"
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise ArenaJudgeError(f"{host} port {port} cannot be listened on ({reason})") from None


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _shown(host: str) -> str:
    """The host as an address to open: a server on all addresses is here, too."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def can_show() -> bool:
    """Whether there is a screen for a web browser; one in the terminal would take it from us."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
