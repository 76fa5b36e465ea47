"""What the proxy can be told, and what it says when it is told nonsense."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.proxy.config import BadConfig, Config

APP = {"app": {"address": "127.0.0.1:9000"}}


def test_one_upstream_is_enough() -> None:
    config = Config.from_mapping({"upstreams": APP})
    assert config.upstreams["app"].port == 9000
    assert [route.upstream for route in config.routes] == ["app"]


def test_pool_settings_of_an_upstream_go_before_the_common_ones() -> None:
    config = Config.from_mapping(
        {
            "pool": {"maximum_size": 10, "idle_timeout_s": 7},
            "upstreams": {"app": {"address": "[::1]:9000", "pool": {"maximum_size": 3}}},
        }
    )
    upstream = config.upstreams["app"]
    assert (upstream.host, upstream.pool.maximum_size, upstream.pool.idle_timeout_s) == ("::1", 3, 7.0)


@pytest.mark.parametrize(
    ("tree", "key", "said"),
    [
        pytest.param({}, "upstreams", "none is given", id="nothing"),
        pytest.param({"upstream": APP}, "upstream", "did you mean 'upstreams'", id="a-misspelt-table"),
        pytest.param(
            {"upstreams": APP, "pool": {"max_size": 3}}, "upstreams.app.pool.max_size", "maximum_size", id="key"
        ),
        pytest.param(
            {"upstreams": APP, "proxy": {"port": "80"}}, "proxy.port", "not a whole number", id="a-string-port"
        ),
        pytest.param({"upstreams": APP, "proxy": {"port": 70_000}}, "proxy.port", "not a port", id="a-large-port"),
        pytest.param({"upstreams": APP, "proxy": {"port": True}}, "proxy.port", "not a whole number", id="a-true-port"),
        pytest.param({"upstreams": APP, "proxy": {"forwarding": "x"}}, "proxy.forwarding", "neither", id="forwarding"),
        pytest.param({"upstreams": {"a": {"address": "x"}}}, "upstreams.a.address", "host:port", id="no-port"),
        pytest.param({"upstreams": {**APP, "b": {"address": "x:1"}}}, "routes", "are needed", id="no-routes"),
        pytest.param({"upstreams": APP, "routes": [{"upstream": "ap"}]}, "routes[0].upstream", "'app'", id="no-such"),
        pytest.param({"upstreams": APP, "routes": [{}]}, "routes[0]", "needs 'upstream'", id="route-to-nowhere"),
        pytest.param({"upstreams": APP, "faults": {"session": True}}, "faults.session", "'sessions'", id="fault"),
        pytest.param(
            {"upstreams": APP, "faults": {"sessions": {"size": 1}}}, "faults.sessions.size", "size_", id="option"
        ),
        pytest.param({"upstreams": APP, "timeouts": {"idle_s": -1}}, "timeouts.idle_s", "out of range", id="negative"),
        pytest.param(
            {"upstreams": APP, "timeouts": {"idle_s": float("nan")}}, "timeouts.idle_s", "out of range", id="nan"
        ),
        pytest.param(
            {"upstreams": APP, "pool": {"maximum_size": 0}}, "upstreams.app.pool.maximum_size", "1", id="empty-pool"
        ),
        pytest.param(
            {"upstreams": APP, "pool": {"minimum_idle": 99}}, "upstreams.app.pool.minimum_idle", "more", id="idle"
        ),
        pytest.param(
            {"upstreams": APP, "pool": {"keepalive_path": "/ x"}},
            "upstreams.app.pool.keepalive_path",
            "path",
            id="path",
        ),
        pytest.param({"upstreams": APP, "limits": 3}, "limits", "not a table", id="not-a-table"),
    ],
)
def test_refuses(tree: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(BadConfig) as caught:
        Config.from_mapping(tree)
    assert caught.value.key == key
    assert said in str(caught.value)


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("[proxy\n")
    with pytest.raises(BadConfig, match="line 1"):
        Config.from_file(path)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nowhere\.toml: No such file"):
        Config.from_file(tmp_path / "nowhere.toml")
