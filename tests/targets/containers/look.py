"""Prints what the probe finds in the code about each container of `patterns`: `look.py CENSUS LOOK`, two sources."""

import json
import sys
from pathlib import Path

import patterns


def module(file):
    """Return the namespace of a module of the probe, as a target gets it: from its source."""
    namespace = {"__name__": "perfkit probe", "__builtins__": __builtins__}
    exec(compile(Path(file).read_text("utf-8"), "<perfkit probe>", "exec"), namespace)
    return namespace


census, code = map(module, sys.argv[1:])
containers = {number: name for name, (number, _roles, _limit, _ttl) in patterns.CASES.items()}
search = census["Search"](set(containers), set(containers))
for _pause in search.run():
    pass
wanted = [(containers[number], path) for number, path in search.paths()]
look, steps = code["look"](wanted, 10**10, census["places_of_variables"]())
for _pause in steps:
    pass
cases = {name: rest for name, (_number, *rest) in patterns.CASES.items()}
paths = {name: [label for label, _object in path] for name, path in wanted}
print(json.dumps({"rows": look.rows, "cases": cases, "paths": paths, "note": look.note, "ran": patterns.RAN}))
