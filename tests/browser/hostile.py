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

# Pages of one kind are read by the browser's parser all at once; of each kind one is opened. Those with what is active.
PARSED = """async ([addresses, active]) => {
  const wrong = [];
  await Promise.all(addresses.map(async (address) => {
    const answer = await fetch(address, {headers: {Accept: 'text/html'}});
    const read = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (!answer.ok || !read.querySelector('main h1') || read.querySelector(active)) wrong.push(address);
  }));
  return wrong;
}"""
