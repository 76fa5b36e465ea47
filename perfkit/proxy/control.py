"""The only place that answers questions about the running proxy: JSON over HTTP on a loopback port.

GET /health, /stats, /settings, /faults · PUT /faults {"sessions": true} · PATCH /settings
{"pool": {"maximum_size": 8}} · POST /reload · POST /drain · POST /collect
"""

import asyncio
import gc
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, cast

from perfkit.proxy import faults
from perfkit.proxy.config import BadConfig, Config
from perfkit.proxy.refusals import Refused, answer
from perfkit.proxy.request import HeadLimits, Request, read_request
from perfkit.proxy.server import Proxy

BODY_LIMIT_BYTES = 1_048_576
_LIMITS = HeadLimits()


class Control:
    """What can be asked of a running proxy.

    Args:
        proxy: the proxy.
        reload: reads the configuration again and returns what needs a restart.
    """

    def __init__(self, proxy: Proxy, reload: Callable[[], list[str]]) -> None:
        self._proxy = proxy
        self._reload = reload

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to one question.

        Raises:
            Refused: there is no such question.
            BadConfig: the settings make no sense.
        """
        questions: dict[str, dict[str, Callable[[Mapping[str, Any]], Any]]] = {
            "/health": {"GET": self._health},
            "/stats": {"GET": lambda _: self._proxy.to_dict()},
            "/settings": {"GET": lambda _: self._settings(), "PATCH": self._change_settings},
            "/faults": {"GET": lambda _: self._faults(), "PUT": self._switch_faults},
            "/reload": {"POST": lambda _: {"reloaded": True, "needs_restart": self._reload()}},
            "/drain": {"POST": self._drain},
            "/collect": {"POST": lambda _: {"unreachable": gc.collect()}},
        }
        methods = questions.get(path)
        if methods is None:
            raise Refused(404, f"known: {', '.join(questions)}")
        if method not in methods:
            raise Refused(405, f"{path} takes {', '.join(methods)}")
        return methods[method](body)

    def _health(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Return whether requests are taken."""
        if self._proxy.draining:
            raise Refused(503, "draining")
        return {"healthy": True, "port": self._proxy.port}

    def _drain(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Begin to drain."""
        self._proxy.loop.call_soon(self._proxy.drain)
        return {"draining": True}

    def _settings(self) -> dict[str, Any]:
        """Return the settings in force."""
        config = self._proxy.config
        return {
            "forwarding": config.forwarding,
            "limits": asdict(config.limits),
            "timeouts": asdict(config.timeouts),
            "upstreams": {
                name: {"address": f"{u.host}:{u.port}", "pool": asdict(u.pool)} for name, u in config.upstreams.items()
            },
            "faults": faults.planted(),
        }

    def _change_settings(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of the running process; `pool` changes the pools of all upstreams."""
        config = self._proxy.config
        if unknown := changes.keys() - {"forwarding", "limits", "timeouts", "pool"}:
            raise BadConfig(min(unknown), "cannot be changed here", "Known: forwarding, limits, timeouts, pool.")
        for name in changes.keys() - {"forwarding"}:
            if not isinstance(changes[name], Mapping):
                raise BadConfig(name, "is not a table")
        tree: dict[str, Any] = {
            "proxy": {"forwarding": changes.get("forwarding", config.forwarding)},
            "limits": {**asdict(config.limits), **changes.get("limits", {})},
            "timeouts": {**asdict(config.timeouts), **changes.get("timeouts", {})},
            "upstreams": {
                name: {"address": f"{u.host}:{u.port}", "pool": {**asdict(u.pool), **changes.get("pool", {})}}
                for name, u in config.upstreams.items()
            },
            "routes": [{f.name: getattr(route, f.name) for f in fields(route)} for route in config.routes],
        }
        changed = Config.from_mapping(tree)
        self._proxy.reload(
            replace(
                config,
                forwarding=changed.forwarding,
                limits=changed.limits,
                timeouts=changed.timeouts,
                upstreams=changed.upstreams,
                faults={name: {"size_bytes": size} for name, size in faults.planted().items()},
            )
        )
        return self._settings()

    def _faults(self) -> dict[str, Any]:
        """Return what is planted and what it has left behind."""
        return {"planted": faults.planted(), "left_behind": faults.left_behind(), "known": list(faults.FAULTS)}

    def _switch_faults(self, switches: Mapping[str, Any]) -> dict[str, Any]:
        """Switch faults on or off: true, false, or `{"size_bytes": n}`."""
        on = Config.from_mapping({"upstreams": {"x": {"address": "x:1"}}, "faults": switches}).faults
        for name in switches:
            if name in on:
                faults.plant(name, on[name].get("size_bytes"))
            else:
                faults.uproot(name)
        return self._faults()


class ControlConnection(asyncio.Protocol):
    """One client of the control endpoint; answers each request at once and closes."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the request is whole."""
        self._held += data
        request: Request | None = None
        fields = b""
        try:
            parsed = read_request(self._held, _LIMITS)
            if parsed is None:
                return
            request, end = parsed
            _check_body(request)
            body = self._held[end:]
            if len(body) < request.length:
                return
            status, answered = 200, self._answer(request, body[: request.length])
        except Refused as refusal:
            status, answered, fields = refusal.status, {"error": refusal.why}, refusal.fields
        except BadConfig as error:
            status, answered = 400, {"error": str(error), "hint": error.hint}
        text = json.dumps(answered).encode() + b"\n"
        head_only = request is not None and request.method == b"HEAD"
        self._transport.write(
            answer(status, text, fields=fields, content_type="application/json", close=True, head_only=head_only)
        )
        self._transport.close()

    def _answer(self, request: Request, body: bytes) -> Any:
        """Return the answer to a whole request.

        Raises:
            Refused: it comes from a web page, or is not JSON.
        """
        # A page in a browser can reach loopback under a name of its own; this one may only be called by its own names.
        if request.host.rpartition(b":")[0].lower() not in (b"127.0.0.1", b"localhost"):
            raise Refused(421, "call the control endpoint as 127.0.0.1 or localhost, with its port")
        try:
            tree = json.loads(body) if body else {}
        except ValueError:
            tree = None
        if not isinstance(tree, dict):
            raise Refused(400, "the body is not a JSON object")
        return self._control.answer(request.method.decode(), request.path.decode("latin-1"), tree)


def _check_body(request: Request) -> None:
    """Refuse a body that is not small and counted."""
    if request.chunked or request.length > BODY_LIMIT_BYTES:
        raise Refused(413, "send a small body with Content-Length")
