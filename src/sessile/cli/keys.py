"""A line editor without a terminal: bytes that were typed in, lines and wishes out."""

import codecs
import re
from dataclasses import dataclass, field

LINE_CHARS_MAX = 100_000
REMEMBERED_MAX = 200

_PASTE_BEGIN, _PASTE_END = "\x1b[200~", "\x1b[201~"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O[@-~]|.)", re.DOTALL)
_PLAIN = re.compile("[^\x00-\x1f\x7f-\x9f]+")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*|O)?")

_MOVES = {
    "\x1b[D": "left", "\x1bOD": "left", "\x02": "left",
    "\x1b[C": "right", "\x1bOC": "right", "\x06": "right",
    "\x1b[A": "older", "\x1bOA": "older", "\x10": "older",
    "\x1b[B": "newer", "\x1bOB": "newer", "\x0e": "newer",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "\x01": "home",
    "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end", "\x05": "end",
    "\x7f": "backspace", "\x08": "backspace", "\x1b[3~": "delete",
    "\x15": "clear", "\x0b": "cut", "\x17": "word", "\x1b\x7f": "word",
    "\x1b[1;5D": "word_left", "\x1bb": "word_left",
    "\x1b[1;5C": "word_right", "\x1bf": "word_right",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A line was finished."""

    text: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Ctrl-D on an empty line."""


Wish = Line | Leave


@dataclass(slots=True)
class Editor:
    """`text` is the line so far, `place` the cursor in it."""

    text: str = ""
    place: int = 0
    _before: list[str] = field(default_factory=list[str])
    _back: int = 0
    _typed: str = ""
    _pasting: bool = False
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )

    def feed(self, typed: bytes) -> list[Wish]:
        """What the bytes make of the line; a sequence that is cut in two waits for its rest."""
        self._typed += self._decoder.decode(typed)
        wishes: list[Wish] = []
        while self._typed:
            key = self._next()
            if key is None:
                break
            if (wish := self._press(key)) is not None:
                wishes.append(wish)
        return wishes

    def reset(self) -> None:
        self.text, self.place, self._back = "", 0, 0

    def _next(self) -> str | None:
        typed = self._typed
        if typed[0] == "\x1b":
            if _UNFINISHED.fullmatch(typed):
                return None
            match = _SEQUENCE.match(typed)
            key = match[0] if match else typed[0]
        else:
            run = _PLAIN.match(typed)
            key = run[0] if run else typed[0]
        self._typed = typed[len(key) :]
        return key

    def _press(self, key: str) -> Wish | None:
        if key in (_PASTE_BEGIN, _PASTE_END):
            self._pasting = key == _PASTE_BEGIN
        elif key in ("\r", "\n") and not self._pasting:
            return self._finish()
        elif key in ("\r", "\n", "\x1b\r", "\x1b\n"):
            self._insert("\n")
        elif key == "\t":
            self._insert("    ")
        elif key == "\x04":
            if not self.text:
                return Leave()
            self._move("delete")
        elif move := _MOVES.get(key):
            self._move(move)
        elif _PLAIN.match(key):
            self._insert(key)
        return None

    def _finish(self) -> Wish:
        text = self.text
        if text.strip() and self._before[-1:] != [text]:
            self._before = [*self._before, text][-REMEMBERED_MAX:]
        self.reset()
        return Line(text)

    def _insert(self, text: str) -> None:
        if len(self.text) + len(text) <= LINE_CHARS_MAX:
            self.text = self.text[: self.place] + text + self.text[self.place :]
            self.place += len(text)

    def _move(self, move: str) -> None:
        text, place = self.text, self.place
        match move:
            case "left":
                self.place = max(place - 1, 0)
            case "right":
                self.place = min(place + 1, len(text))
            case "home":
                self.place = 0
            case "end":
                self.place = len(text)
            case "word_left":
                self.place = self._word_begin()
            case "word_right":
                rest = re.match(r"\W*\w*", text[place:])
                self.place += rest.end() if rest else 0
            case "backspace" if place:
                self.text, self.place = text[: place - 1] + text[place:], place - 1
            case "delete":
                self.text = text[:place] + text[place + 1 :]
            case "clear":
                self.text, self.place = text[place:], 0
            case "cut":
                self.text = text[:place]
            case "word":
                begin = self._word_begin()
                self.text, self.place = text[:begin] + text[place:], begin
            case "older":
                self._recall(self._back + 1)
            case "newer":
                self._recall(self._back - 1)
            case _:
                pass

    def _word_begin(self) -> int:
        before = self.text[: self.place].rstrip()
        return len(before) - len(re.split(r"\s", before)[-1])

    def _recall(self, back: int) -> None:
        if 0 <= back <= len(self._before):
            self._back = back
            self.text = self._before[-back] if back else ""
            self.place = len(self.text)
