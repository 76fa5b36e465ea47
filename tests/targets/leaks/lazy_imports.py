r"""A service that imports modules and compiles patterns when a route is first asked for: warm-up in the first half.

Truth:
kind = "negative"
classes = ["none", "filling", "undetermined"]
"""

import importlib
import re

from service import Service

MODULES = """
    xml.dom.minidom xml.sax email.mime.text http.client http.cookiejar urllib.robotparser sqlite3 decimal fractions
    statistics difflib pdb doctest unittest unittest.mock csv configparser plistlib zipfile tarfile lzma bz2 ftplib
    imaplib smtplib xmlrpc.client xmlrpc.server wave colorsys turtledemo pydoc code codeop ast tokenize symtable
    compileall pickletools multiprocessing.pool concurrent.futures.process asyncio.subprocess logging.config
""".split()


def route(number, patterns):
    if number < len(MODULES):
        try:
            importlib.import_module(MODULES[number])
        except ImportError:
            pass
    if number not in patterns:
        patterns[number] = re.compile(rf"^/route-{number}/(?P<id>[0-9a-f]{{8}})/(?P<rest>.*)$")


def main():
    service = Service(rate=80)
    patterns, begun = {}, 0
    service.ready()
    for number in service.requests():
        service.churn()
        begun = min(begun + (service.random.random() < 0.2), 300)
        route(begun, patterns)


main()
