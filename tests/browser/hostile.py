"""What would run in a page that takes text for HTML, and what tells that it did.

Each payload calls `__ran`, which `DETECTOR` plants before anything of a page is run.
"""

from typing import Any

ESC = "\x1b"
HTML = (
    "<script>__ran('script')</script>",
    "<img src=x onerror=\"__ran('img')\">",
    "<svg onload=\"__ran('svg')\"><animate onbegin=\"__ran('animate')\" attributeName=x dur=1s>",
    "<iframe srcdoc=\"<script>parent.__ran('srcdoc')</script>\"></iframe>",
    "<details open ontoggle=\"__ran('details')\">more</details>",
    "<form action=\"javascript:__ran('form')\"><button>press</button></form>",
    "<a href=\"javascript:__ran('a')\">a link</a>",
)
"""Each runs, or waits for a click, where it is taken for HTML."""
MARKDOWN = (
    "[a link](javascript:__ran('link'))",
    "[third](&#106;avascript:__ran('entity'))",
    "<javascript:__ran('autolink')>",
    "> <img src=x onerror=\"__ran('quoted')\">",
    "| a |\n|---|\n| <img src=x onerror=\"__ran('cell')\"> |",
)
"""Each does the same where Markdown is rendered, and nothing takes out what may not be there."""
OTHERS = (
    "<style>@import 'javascript:__ran()'; body { display: none }</style>",
    "<math><mtext><table><mglyph><style><img src=x onerror=\"__ran('mxss')\">",
    "[another](java\tscript:__ran('tab'))",
    "[data](data:text/html,<script>opener.__ran('data')</script>)",
    "![image](x\"onerror=\"__ran('attribute'))",
    "```\n</code></pre><img src=x onerror=\"__ran('fence')\">\n```",
    "`</code><img src=x onerror=\"__ran('code')\">`",
    "<b id=__ran name=getElementById>clobbered</b><form id=document name=body>",
    '<base href="https://elsewhere.invalid/">',
    '<meta http-equiv=refresh content="0;url=javascript:__ran()">',
    "\u202egnp.exe\u202c \u2066isolate",
    f"{ESC}[31mred{ESC}[0m {ESC}]8;;javascript:__ran('ansi'){ESC}\\click{ESC}]8;;{ESC}\\",
    "{{constructor.constructor('__ran()')()}} ${__ran('template')} <%= __ran() %>",
)
"""What has run in other pages than these."""
PAYLOADS = (*HTML, *MARKDOWN, *OTHERS)

USER = "<img/src=x/onerror=__ran(/user/)>"
"""A user's name: it may have no space."""

DETECTOR = """
(() => {
  const ran = [];
  Object.defineProperty(window, '__ran', {value: (what) => { ran.push(String(what)); }});
  Object.defineProperty(window, '__told', {value: () => [
    ...ran,
    ...[...document.querySelectorAll('*')].flatMap((element) =>
      [...element.attributes]
        .filter((each) => /^on/i.test(each.name) ||
          (/^(href|src|action|srcdoc|formaction|xlink:href)$/i.test(each.name) &&
           /^\\s*(javascript|data:text|vbscript):?/i.test(each.value)))
        .map((each) => `${element.localName} has ${each.name}=${each.value}`)),
  ]});
})();
"""
"""Plants `__ran`, and `__told`, which answers what it heard and which elements could still run
something once they are touched."""


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"end": PAYLOADS[1]}
    for _ in range(depth):
        inner = {PAYLOADS[0]: [inner]}
    return inner
