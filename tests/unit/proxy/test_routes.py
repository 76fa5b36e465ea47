"""Which upstream a request goes to."""

import pytest

from perfkit.proxy.request import HeadLimits, read_request
from perfkit.proxy.routes import Route, Routes

ROUTES = Routes(
    [
        Route("canary", headers={"X-Canary": "yes"}),
        Route("admin", host="admin.example", prefix="/"),
        Route("wild", host="*.tenants.example"),
        Route("users", prefix="/api/users"),
        Route("api", prefix="/api/"),
    ]
)


@pytest.mark.parametrize(
    ("target", "host", "fields", "upstream"),
    [
        pytest.param(b"/api", b"a", b"", "api", id="the-prefix-itself"),
        pytest.param(b"/api/x?y=/api/users", b"a", b"", "api", id="below-the-prefix"),
        pytest.param(b"/api/users/7", b"a", b"", "users", id="the-first-that-matches"),
        pytest.param(b"/api/usersX", b"a", b"", "api", id="whole-segments-only"),
        pytest.param(b"/apix", b"a", b"", None, id="no-route"),
        pytest.param(b"/x", b"ADMIN.example:8080", b"", "admin", id="host-without-case-and-port"),
        pytest.param(b"/x", b"a.tenants.example", b"", "wild", id="subdomain"),
        pytest.param(b"/x", b"tenants.example", b"", None, id="not-a-subdomain"),
        pytest.param(b"/x", b"a", b"X-CANARY:  yes \r\n", "canary", id="a-field"),
        pytest.param(b"/x", b"a", b"X-Canary: yes!\r\n", None, id="a-field-with-another-value"),
        pytest.param(b"/x", b"a", b"X-Canary: no\r\nX-Canary: yes\r\n", "canary", id="one-of-two-fields"),
    ],
)
def test_goes_to(target: bytes, host: bytes, fields: bytes, upstream: str | None) -> None:
    parsed = read_request(b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, host, fields), HeadLimits())
    assert parsed is not None
    route = ROUTES.match(parsed[0])
    assert (route and route.upstream) == upstream
