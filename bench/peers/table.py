"""The figures of all peers as one table, in Markdown."""

from collections.abc import Sequence

from bench.peers.peer import Peer
from bench.report import Report, shown

HEAD = (
    "server", "keeps", "turns/s, 1 / 64 callers", "p50 / p99 ms, 1 caller",
    "p50 / p99 ms, 64 callers", "refused, 64 callers", "CPU ms a turn, 1 / 64",
    "n-th turn, ms", "memory MiB, idle / after", "a held reader, KiB", "Sessile: times its turns/s",
)  # fmt: skip


def as_markdown(report: Report, peers: Sequence[Peer]) -> str:
    """A row for each peer, and behind each the Sessile that was measured beside it."""
    rows: list[Sequence[str]] = [HEAD, ["---"] * len(HEAD)]
    for peer in peers:
        found = {each.name: each.value for each in report.figures if each.section == peer.name}
        title = f"{peer.title} {peer.version}"
        if not found:
            why = report.absent.get(peer.name, "not measured")
            rows.append([title, peer.keeps, why, *[""] * (len(HEAD) - 3)])
            continue
        rows.append([title, peer.keeps, *_row(found, "peer"), _times(found)])
        kept = "PostgreSQL" if peer.keeps == "PostgreSQL" else "SQLite"
        rows.append(["Sessile, beside it", kept, *_row(found, "sessile"), ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(found: dict[str, float], who: str) -> list[str]:
    def of(*names: str) -> str:
        return " / ".join(shown(found[name]) if name in found else "-" for name in names)

    one, many = f"{who}, 1 caller: ", f"{who}, 64 callers: "
    nth = {name: value for name, value in found.items() if name.startswith(f"{who}: n-th turn, n")}
    refused = found.get(f"{many}refused")
    return [
        of(f"{one}turns", f"{many}turns"),
        of(f"{one}p50", f"{one}p99"),
        of(f"{many}p50", f"{many}p99"),
        "" if not refused else f"{shown(refused)} %",
        of(f"{one}CPU a turn", f"{many}CPU a turn"),
        ", ".join(f"{name.rpartition(' ')[2]}: {shown(value)}" for name, value in nth.items()),
        of(f"{who}: memory before", f"{who}: memory after them"),
        of(f"{who}: memory of each"),
    ]


def _times(found: dict[str, float]) -> str:
    names = ("1 caller: sessile's turns to the peer's", "64 callers: sessile's turns to the peer's")
    return " / ".join(shown(found[name]) if name in found else "-" for name in names)
