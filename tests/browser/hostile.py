"""Texts that strangers send; each must stay text."""

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></table></template><svg onload=alert(1)>",
    "'\"><iframe src=javascript:alert(1)>",
    "{{ 7*7 }} {% debug %} ${7*7}",
    "javascript:alert(1)",
    "<!--#exec cmd='x'-->",
    "\u202egnp.exe",
    "<style>*{display:none}</style>",
    "]]><script>alert(1)</script>",
    '{"<img src=x onerror=alert(1)>": "<svg/onload=alert(1)>"}',
    "<a hx-get=/tkcons/stop hx-trigger=load>x</a>",
    "<math><mtext><style><img src onerror=alert(1)>",
    "\\x3cscript\\x3e\u2028alert(1)",
]
