// What refreshes itself rests while nobody can see it, and while somebody marks text in it.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});
for (const swap of ["htmx:beforeSwap", "htmx:oobBeforeSwap"]) {
  document.addEventListener(swap, (event) => {
    const marked = getSelection();
    if (!marked.isCollapsed && event.detail.target.contains(marked.anchorNode)) event.detail.shouldSwap = false;
  });
}

// States and errors that were not there before are said, to who does not see them.
const told = () => [...document.querySelectorAll("[data-told]")].map((element) => element.dataset.told);
let known = told();
for (const swapped of ["htmx:afterSwap", "htmx:oobAfterSwap"]) {
  document.addEventListener(swapped, () => {
    const now = told(), fresh = now.filter((text) => !known.includes(text));
    known = now;
    if (fresh.length) document.getElementById("news").textContent = fresh.join(". ");
  });
}

const stale = document.getElementById("stale");
for (const [outcome, hidden] of [["htmx:afterOnLoad", true], ["htmx:responseError", false], ["htmx:sendError", false]]) {
  if (stale) document.addEventListener(outcome, () => { stale.hidden = hidden; });
}

// Without a script there is nothing that selects all.
const all = document.getElementById("all");
if (all) {
  all.parentElement.hidden = false;
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = all.checked;
  });
}
