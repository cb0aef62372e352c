"""The report as one page that needs nothing else: each finding with its timeline drawn, and what
went over the wire. What a backend answered is shown as text, whatever it is."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from sessile.verify.check import Finding, Result
from sessile.verify.history import History, Op
from sessile.verify.report import evidence, summary

STYLE = """
:root { color-scheme: light dark; --line: #8886; --bad: #c62828; --good: #2e7d32; --dim: #777; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
td:nth-child(-n+2), th { white-space: nowrap; }
td:nth-child(3) { text-align: right; font-variant-numeric: tabular-nums; }
.found { color: var(--bad); font-weight: 600; } .passed { color: var(--good); }
.not { color: var(--dim); }
section { margin: 2.5rem 0; } h2 { margin-bottom: .2rem; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .2rem 1rem;
          margin: 1rem 0; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); border-radius: .3rem;
      font-size: 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui; fill: currentColor; }
svg line { stroke: var(--line); }
summary { cursor: pointer; }
"""
WIDTH, ROW, LEFT = 900, 26, 190


def as_html(history: History, results: Sequence[Result]) -> str:
    ops = {op.number: op for op in history.ops}
    title = f"sessile verify: {history.run.target}"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src "
        "'unsafe-inline'\"><meta name=viewport content='width=device-width'>",
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>",
        f"<p>{escape(summary(results))}. {len(history.ops):,} operations at"
        f" {escape(history.run.url)}, seed {escape(str(history.run.seed))}.</p>",
        *(_section(result, ops) for result in results if result.findings),
        "<h2>All checks</h2>",
        "<table><thead><tr><th>Check<th>Verdict<th>Times looked<th>A fault would be that<tbody>",
        *(_row(result) for result in results),
        "</table>",
    ]
    return "\n".join(parts) + "\n"


def _row(result: Result) -> str:
    name = escape(result.check.name)
    if result.findings:
        name = f"<a href='#{name}'>{name}</a>"
    about = escape(result.check.about)
    if result.why:
        about += f" <span class=not>({escape(result.why)})</span>"
    verdict = result.verdict.partition(" ")[0]
    return f"<tr><td>{name}<td class={verdict}>{result.verdict}<td>{result.trials or ''}<td>{about}"


def _section(result: Result, ops: Mapping[int, Op]) -> str:
    check = result.check
    more = f"<p>And {result.more} more.</p>" if result.more else ""
    found = "\n".join(
        _article(finding, ops, shown=number == 0) for number, finding in enumerate(result.findings)
    )
    return (
        f"<section id='{escape(check.name)}'><h2>{escape(check.name)}</h2>"
        f"<p>{escape(check.about[0].upper() + check.about[1:])}.</p>"
        f"{found}{more}</section>"
    )


def _article(finding: Finding, ops: Mapping[int, Op], *, shown: bool) -> str:
    told = [ops[number] for number in finding.ops]
    raw = "".join(f"<pre>{escape(evidence(op))}</pre>" for op in told)
    details = "<details open>" if shown else "<details>"
    return (
        f"<article><p><strong>{escape(finding.what)}</strong></p>{''.join(_drawn(told))}"
        f"{details}<summary>Requests and replies</summary>{raw}</details></article>"
    )


def _drawn(ops: Sequence[Op]) -> Iterator[str]:
    """When each operation took place, one line each."""
    begin, end = min(op.began for op in ops), max(op.ended for op in ops)
    scale = (WIDTH - LEFT - 90) / max(end - begin, 0.001)
    height = ROW * len(ops) + 24
    yield f"<svg viewBox='0 0 {WIDTH} {height}' role=img aria-label='timeline'>"
    for number, op in enumerate(ops):
        x, y = LEFT + (op.began - begin) * scale, 8 + number * ROW
        width = max(3.0, (op.ended - op.began) * scale)
        colour = "var(--good)" if op.ok else "var(--bad)"
        name = f"#{op.number} {op.kind} · {op.client}"
        yield f"<text x='0' y='{y + 12}'>{escape(name[:34])}</text>"
        yield f"<line x1='{LEFT}' x2='{WIDTH - 90}' y1='{y + 8}' y2='{y + 8}'/>"
        yield (
            f"<rect x='{x:.1f}' y='{y + 2}' width='{width:.1f}' height='12' rx='3'"
            f" fill='{colour}'/>"
        )
        said = str(op.status or op.said.get("name") or op.outcome)
        yield f"<text x='{WIDTH - 84}' y='{y + 12}'>{escape(said[:14])}</text>"
    yield f"<text x='{LEFT}' y='{height - 4}'>{begin:.3f} s</text>"
    yield f"<text x='{WIDTH - 150}' y='{height - 4}'>{end:.3f} s</text></svg>"
