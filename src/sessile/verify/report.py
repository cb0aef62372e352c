"""What a run comes to, as a program reads it: JSON, and JUnit XML for a build server."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as Xml  # it writes, and reads none  # nosec B405

from sessile.verify.check import Finding, Result
from sessile.verify.history import History, Op

_NO_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def summary(results: Iterable[Result]) -> str:
    verdicts = [result.verdict for result in results]
    found, passed = verdicts.count("found"), verdicts.count("passed")
    return (
        f"{len(verdicts)} checks: {found} found something, {passed} passed,"
        f" {verdicts.count('not testable')} could not be tested"
    )


def as_json(history: History, results: Sequence[Result]) -> str:
    ops = {op.number: op for op in history.ops}
    told: dict[str, Any] = {
        "target": history.run.target,
        "url": history.run.url,
        "seed": history.run.seed,
        "operations": len(history.ops),
        "summary": {
            verdict: sum(result.verdict == verdict for result in results)
            for verdict in ("found", "passed", "not testable")
        },
        "checks": [
            {
                "name": result.check.name,
                "class": result.check.kind,
                "tier": result.check.tier,
                "about": result.check.about,
                "verdict": result.verdict,
                "trials": result.trials,
                "why": result.why,
                "findings": [_finding(finding, ops) for finding in result.findings],
                "more_findings": result.more,
            }
            for result in results
        ],
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def as_junit(history: History, results: Sequence[Result]) -> str:
    """One test case a check: what was found is a failure, what was not testable is skipped."""
    ops = {op.number: op for op in history.ops}
    suite = Xml.Element(
        "testsuite",
        name=_plain(f"sessile verify {history.run.target}"),
        tests=str(len(results)),
        failures=str(sum(result.verdict == "found" for result in results)),
        skipped=str(sum(result.verdict == "not testable" for result in results)),
    )
    for result in results:
        case = Xml.SubElement(
            suite, "testcase", classname=f"{result.check.kind}.{result.check.tier}",
            name=result.check.name,
        )  # fmt: skip
        if result.verdict == "not testable":
            Xml.SubElement(case, "skipped", message=result.why)
        for finding in result.findings:
            failure = Xml.SubElement(case, "failure", message=_plain(finding.what))
            failure.text = _plain("\n\n".join(evidence(ops[number]) for number in finding.ops))
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def evidence(op: Op) -> str:
    """One operation as it went over the wire."""
    when = f"{op.began:.3f} to {op.ended:.3f} s"
    head = f"#{op.number} {op.kind} by {op.client} ({op.principal}), {when}"
    return "\n".join(part for part in (head, op.request, op.reply) if part)


def _finding(finding: Finding, ops: Mapping[int, Op]) -> dict[str, Any]:
    return {
        "what": finding.what,
        "session": finding.session,
        "evidence": [
            {
                "operation": number,
                "kind": ops[number].kind,
                "client": ops[number].client,
                "principal": ops[number].principal,
                "began": ops[number].began,
                "ended": ops[number].ended,
                "request": ops[number].request,
                "reply": ops[number].reply,
            }
            for number in finding.ops
        ],
    }


def _plain(text: str) -> str:
    """Without what XML cannot hold."""
    return _NO_XML.sub("�", text)
