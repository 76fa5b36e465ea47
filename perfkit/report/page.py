"""The only place that turns an executed notebook and its findings into a page."""

import base64
import gzip
import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from perfkit import __version__, views
from perfkit.findings import Finding, Verdict, to_json_form
from perfkit.profile import Profile
from perfkit.report.cells import Drawings, Section, sections_of
from perfkit.report.markup import clean, safe
from perfkit.report.notebooks import Prepared
from perfkit.report.redact import Redactor
from perfkit.units import value_text
from perfkit.views import charts
from perfkit.views.display import marked
from perfkit.views.flame_graph import asset as flame_asset
from perfkit.views.flame_graph import script_json
from perfkit.views.verdict import conclude, evidence_table, findings_table

MARKS = {"fail": "✕", "error": "!", "undecided": "?", "pass": "✓"}
NOTHING = "'none'"
_VEGA = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")


def build(
    profile: Profile, findings: Sequence[Finding], notebook: Prepared, problem: str | None, *, static: bool = False
) -> str:
    """Return the page: the verdict and its numbers first, in plain HTML, then what the notebook shows."""
    redactor = Redactor(profile.path, profile.name)
    drawings = Drawings(static=static)
    sections = sections_of(notebook.cells, drawings, redactor)
    conclusion = conclude(findings, notebook.first_rules)
    headline = conclusion.finding
    verdict = conclusion.verdict
    sentence = conclusion.sentence
    if problem is not None:
        verdict, sentence = "error", f"The notebook stopped early; the rules say {conclusion.verdict}: {sentence}"
    passed = [finding for finding in findings if finding.verdict is Verdict.PASS and finding is not headline]
    shown = [finding for finding in findings if finding not in passed]
    others = [f for f in findings if f.verdict is not Verdict.PASS and f is not headline]
    script = flame_asset("flame.js") + "\n" + _asset("report", "report.js") if drawings.need_scripts else ""
    bundle = vega_bundle() if drawings.charts else ""
    drawn = {
        "charts": redactor.tree(drawings.charts),
        "flames": redactor.tree(drawings.flames),
        "themes": {"light": charts.theme(charts.LIGHT), "dark": charts.theme(charts.DARK)},
    }
    page = _template().render(
        csp=content_security_policy(script, bundle),
        perfkit_version=__version__,
        verdict=verdict,
        marks=MARKS,
        title=notebook.title,
        question=notebook.cells.metadata.get("perfkit", {}).get("question", notebook.title),
        profile_name=profile.name,
        css=safe(_asset("report", "report.css") + flame_asset("flame.css")),
        sentence=redactor.text(sentence),
        hint=clean(marked(headline.hint), redactor) if headline else "",
        facts=_facts(headline, redactor),
        problem=redactor.text(problem) if problem else "",
        others=[_card(finding, redactor) for finding in others],
        others_title="Also found" if any(f.verdict is Verdict.FAIL for f in findings) else "Not decided",
        checks=clean(findings_table(shown).html(), redactor),
        passed=clean(findings_table(passed).html(), redactor) if passed else "",
        passed_title=_passed_title(passed),
        numbers=_view(views.key_numbers(profile, pid=headline.pid if headline else None), redactor),
        sections=sections,
        contents=_contents(sections, bool(others), problem is not None),
        rules=_rules(findings, redactor),
        environment=safe(f'<div class="plain">{_view(views.environment(profile), redactor)}</div>'),
        reproduce=_reproduce(profile, notebook),
        log=redactor.text(drawings.log),
        findings_json=safe(script_json(redactor.tree(to_json_form(profile.name, list(findings))))),
        data_blob=safe(packed(json.dumps(drawn, separators=(",", ":"), allow_nan=False))),
        vega_blob=safe(packed(bundle) if bundle else ""),
        script=safe(script),
    )
    return str(page)


def content_security_policy(*scripts: str) -> str:
    """Return a policy that allows exactly these scripts and no network.

    Scripts are allowed by their hash, so markup that slipped in could still not run any.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
        if script
    )
    return (
        f"default-src 'none'; script-src {hashes or NOTHING}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def vega_bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    parts = [re.sub(r"//# sourceMappingURL=.*", "", _asset("vega", name)) for name in _VEGA]
    return ";\n".join(part.strip() for part in parts)


def packed(text: str) -> str:
    """Return a text as base64 of gzip, the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _facts(finding: Finding | None, redactor: Redactor) -> list[dict[str, Any]]:
    """Return what a finding names, for the box at the top."""
    if finding is None:
        return []
    facts: list[dict[str, Any]] = []
    if finding.measured is not None and finding.rate_bytes_per_s is None:
        facts.append({"label": "measured", "html": value_text(finding.measured, finding.unit)})
        if finding.limit is not None:
            facts.append({"label": "limit", "html": value_text(finding.limit, finding.unit)})
    if table := evidence_table(finding):
        for label, cell in table.rows:
            shown = escape(cell) if isinstance(cell, str) else cell.html() if cell else ""
            facts.append({"label": str(label), "html": clean(shown, redactor)})
    return facts


def _card(finding: Finding, redactor: Redactor) -> dict[str, Any]:
    """Return what the template shows of a finding below the headline."""
    table = evidence_table(finding)
    measured = ""
    if finding.measured is not None:
        measured = f"measured {value_text(finding.measured, finding.unit)}"
        if finding.limit is not None:
            measured += f", limit {value_text(finding.limit, finding.unit)}"
    return {
        "anchor": f"{finding.rule}-{finding.pid}" if finding.pid else finding.rule,
        "verdict": str(finding.verdict),
        "title": redactor.text(finding.title),
        "measured": measured,
        "hint": clean(marked(finding.hint), redactor),
        "evidence": clean(f'<div class="plain">{table.html()}</div>' if table else "", redactor),
        "needs": redactor.text("; ".join(finding.needs)),
    }


def _passed_title(passed: Sequence[Finding]) -> str:
    """Return which other checks passed, in a line that also says so on paper, where nothing unfolds."""
    names = list(dict.fromkeys(finding.rule.replace("_", " ") for finding in passed))
    count = f"{len(names)} other checks" if len(names) > 1 else "One other check"
    return f"{count} passed: {', '.join(names)}"


def _contents(sections: Sequence[Section], has_others: bool, has_problem: bool) -> list[dict[str, str]]:
    """Return the entries of the table of contents."""
    entries = [("verdict", "Verdict")]
    entries += [("error", "Error")] if has_problem else []
    entries += [("findings", "Findings")] if has_others else []
    entries += [("checks", "All checks"), ("numbers", "Key numbers")]
    entries += [(section.anchor, section.title) for section in sections if section.title]
    entries += [("rules", "How the rules judge"), ("environment", "Environment"), ("reproduce", "Reproduce")]
    return [{"anchor": anchor, "title": title} for anchor, title in entries]


def _rules(findings: Sequence[Finding], redactor: Redactor) -> list[dict[str, Any]]:
    """Return the documentation of every rule that was asked, with what it measured here."""
    from inspect import cleandoc

    from perfkit.rules import rules

    known = rules()
    pages = []
    for name in dict.fromkeys(finding.rule for finding in findings):
        first, _, rest = cleandoc(type(known[name]).__doc__ or "").partition("\n\n") if name in known else ("", "", "")
        parts = (part for part in re.split(r"\n\n|\n(?=[A-Z][a-z ]+: )", rest) if part.strip())
        body = "".join(f"<p>{escape(part)}</p>" for part in parts)
        for finding in findings:
            if finding.rule == name and finding.evidence:
                body += f"<pre>{escape(json.dumps(redactor.tree(finding.evidence), indent=2, sort_keys=True))}</pre>"
        title = f"{name.replace('_', ' ')}: {' '.join(first.split())}".removesuffix(": ")
        pages.append({"name": name, "title": title, "html": safe(body)})
    return pages


def _reproduce(profile: Profile, notebook: Prepared) -> str:
    """Return the commands that make this report again."""
    given = " ".join(f"-p {name}={shlex.quote(str(value))}" for name, value in sorted(notebook.given.items()))
    pm = " ".join(f"-p {name} {shlex.quote(str(value))}" for name, value in sorted(notebook.given.items()))
    folder = shlex.quote(f"profiles/{profile.name}")
    return "\n".join(
        " ".join(line.split())
        for line in (
            f"perfkit report {folder} --notebook {notebook.name} {given}",
            f"papermill notebooks/{notebook.name}.ipynb out.ipynb -p profile_dir {folder} {pm}",
        )
    )


def _view(view: Any, redactor: Redactor) -> Any:
    """Return a view's HTML."""
    return clean(view._repr_mimebundle_()["text/html"], redactor)


@cache
def _template() -> Any:
    """Return the template of the page; everything it is given is escaped unless marked safe."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("report", "report.html.j2"))


@cache
def _asset(folder: str, name: str) -> str:
    """Return a bundled file."""
    return (files("perfkit") / "assets" / folder / name).read_text("utf-8")
