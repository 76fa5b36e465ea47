"""The only place that knows how long one waits for one of c connections: M/M/c, and how many would be enough."""

import math


def erlang_c(offered: float, servers: int) -> float:
    """Return the probability that a request has to wait.

    Args:
        offered: requests per second times mean holding time: the connections in use if nobody waited.
        servers: connections; 1.0 is returned where they are not more than is offered.

    Source: A. K. Erlang (1917); the recursion for B: https://doi.org/10.1287/opre.33.3.512

    >>> round(erlang_c(8.0, 10), 3)
    0.409
    """
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return servers * blocked / (servers - offered * (1 - blocked))


def wait_quantile_s(offered: float, servers: int, hold_s: float, quantile: float) -> float:
    """Return how long a request waits at most, in seconds, with this probability; infinite where the queue grows.

    Source: the wait of those who wait is exponential with rate (c - a) / S.

    >>> wait_quantile_s(1.0, 10, 0.1, 0.99)
    0.0
    """
    if offered >= servers:
        return math.inf
    waits = erlang_c(offered, servers)
    if waits <= 1 - quantile:
        return 0.0
    return hold_s / (servers - offered) * math.log(waits / (1 - quantile))


def enough_servers(offered: float, hold_s: float, target_s: float, quantile: float = 0.99) -> int:
    """Return the least number of connections with which a request waits no longer than the target.

    >>> enough_servers(8.0, 0.1, 0.05)
    13
    """
    servers = max(1, math.floor(offered) + 1)
    while wait_quantile_s(offered, servers, hold_s, quantile) > target_s:
        servers += 1
    return servers
