"""What of WCAG a script can see: asked of a page by `evaluate`, each gives a list of what is wrong."""

# Texts whose contrast with the ground behind them is below 4.5; where they are large, below 3.
POOR_CONTRAST = r"""() => {
  const light = colour => {
    const parts = colour.match(/[\d.]+/g).map(Number).slice(0, 3).map(part => part / 255);
    const [r, g, b] = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\)$/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const poor = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('.skip, .skip-to-content-link')) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const [a, b] = [light(style.color), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${element.outerHTML.slice(0, 80)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""

# Things to use that have no name.
UNNAMED = """() => [...document.querySelectorAll('input:not([type=hidden], [type=submit]), select, textarea, button, a')]
  .filter(e => e.checkVisibility() && !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).map(e => e.outerHTML)"""

# Pixels that the page is wider than the window.
TOO_WIDE = "Math.max(0, document.scrollingElement.scrollWidth - innerWidth) || []"

# Tables that have to be scrolled sideways.
CUT_OFF = """() => [...document.querySelectorAll('.table, .results')]
  .filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel ?? e.className)"""

# Headings that skip a level, and any but one of the first.
HEADINGS = """() => {
  const levels = [...document.querySelectorAll('h1, h2, h3, h4')].filter(e => e.checkVisibility()).map(e => +e.tagName[1]);
  const wrong = levels.filter((level, at) => level > (levels[at - 1] ?? 0) + 1);
  return wrong.length || levels.filter(level => level === 1).length !== 1 ? levels : [];
}"""

# Fields without a label of their own.
UNLABELLED = """() => [...document.querySelectorAll('input:not([type=hidden], [type=submit]), select, textarea')]
  .filter(e => e.checkVisibility() && !e.labels.length && !e.ariaLabel).map(e => e.outerHTML)"""

# What has the focus: where it is in the page, whether one sees that it has it, and its words. None: the page itself.
FOCUS = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  return {top: box.top + scrollY, bottom: box.bottom + scrollY, left: box.left, seen: style.outlineStyle !== 'none',
          width: box.width, text: (e.ariaLabel || e.textContent || e.name).trim().slice(0, 40)};
}"""
