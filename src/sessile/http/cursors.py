"""Where a reader is in a log, as it says so: `{epoch}.{seq}`, or a plain seq.

After the database was put back to an earlier state, a seq of before may stand for another entry:
what was read of it is told by the epoch.
"""

import re

from sessile.http.sessions import SEQ_MAX

AHEAD_OF_ALL = SEQ_MAX
"""Where a reader is that says where it is in a way that we do not understand, or read the log of
another epoch: it gets a reset."""
FORM = r"^(?:([0-9]{1,18})\.)?([0-9]{1,18})$"


def cursor(seq: int, *, epoch: int) -> str:
    """As readers are told it."""
    return f"{epoch}.{seq}" if epoch else str(seq)


def seq_of(said: str, *, epoch: int, plain: int) -> int:
    """The seq behind which a reader is that said so; AHEAD_OF_ALL for what is no cursor, or one of
    another epoch than `epoch`. `plain`: the epoch of one that names none. Who has read nothing,
    which is 0, has read nothing of any epoch."""
    found = re.fullmatch(FORM, said)
    if found is None:
        return AHEAD_OF_ALL
    named, seq = found.groups()
    of = plain if named is None else int(named)
    return int(seq) if of == epoch or not int(seq) else AHEAD_OF_ALL
