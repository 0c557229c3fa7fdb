"use strict";
document.documentElement.classList.add("scripted");

// --- The table of findings: filters that the address remembers, and sorting -----------------------

const table = document.getElementById("table");
const form = document.getElementById("filters");

function listFindings() {
  const groups = [...table.tBodies].map((body) => ({
    body,
    head: body.rows[0],
    rows: [...body.rows].slice(1).map((row) => ({
      row,
      text: row.cells[0].textContent.toLowerCase(),
      kernels: new Set(row.dataset.kernel.split(" ")),
    })),
  }));
  const total = groups.reduce((sum, group) => sum + group.rows.length, 0);
  const matches = (one, wanted) =>
    wanted.text.toLowerCase().split(/\s+/).every((word) => one.text.includes(word)) &&
    ["state", "severity", "rule"].every((name) => !wanted[name] || one.row.dataset[name] === wanted[name]) &&
    (!wanted.kernel || one.kernels.has(wanted.kernel));

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    let left = 0;
    for (const group of groups) {
      let here = 0;
      for (const one of group.rows) {
        one.row.hidden = !matches(one, wanted);
        here += !one.row.hidden;
      }
      group.head.hidden = !here;
      group.head.querySelector(".of").textContent =
        here === group.rows.length ? here : `${here} of ${group.rows.length}`;
      left += here;
    }
    document.getElementById("shown").textContent = left === total ? "" : `${left} of ${total} findings`;
    document.getElementById("none").hidden = left > 0;
    const chosen = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    if (!location.hash.startsWith("#finding=") && location.hash.slice(1) !== String(chosen)) {
      history.replaceState(null, "", chosen.size ? `#${chosen}` : location.pathname + location.search);
    }
  }

  function remember() {
    const known = new URLSearchParams(location.hash.slice(1));
    for (const field of form.elements) {
      if (!field.name || !known.has(field.name)) continue;
      field.value = known.get(field.name);
      if (field.value === "" || field.selectedIndex === -1) field.value = "";  // there is no such choice
    }
  }

  function sort(column, head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (one) => one.row.cells[column].dataset.key;
    const numbers = groups.every((group) => group.rows.every((one) => key(one) !== "" && !isNaN(key(one))));
    const compare = numbers
      ? (a, b) => key(a) - key(b)
      : (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
    for (const group of groups) {
      group.rows.sort((a, b) => (down ? -compare(a, b) : compare(a, b)));
      group.body.append(...group.rows.map((one) => one.row));
    }
  }

  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.dataset.by) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column, head));
    head.replaceChildren(button);
  });
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && form.offsetParent) {
      event.preventDefault();
      form.elements.text.focus();
    }
  });
  addEventListener("hashchange", () => {
    const asked = [...new URLSearchParams(location.hash.slice(1)).keys()];
    if (!asked.some((name) => name in form.elements)) return;
    form.reset();
    remember();
    filter();
  });
  remember();
  filter();
}

// --- A picture: a slider over its steps -----------------------------------------------------------

function stepThrough(picture) {
  const steps = [...picture.querySelectorAll(".step")];
  const slider = picture.querySelector("input[type=range]");
  const said = picture.querySelector("output");
  const moves = [...picture.querySelectorAll("button[data-move]")];
  const show = () => {
    const now = Number(slider.value);
    const where = `step ${now + 1} of ${steps.length}`;
    const caption = steps[now].dataset.caption;
    steps.forEach((step, number) => step.classList.toggle("now", number === now));
    said.textContent = `${where}: ${caption}`;
    slider.setAttribute("aria-valuetext", said.textContent);
    for (const button of moves) button.disabled = !(now + Number(button.dataset.move) in steps);
    turnToWhatIsWrong(steps[now]);
  };
  for (const button of moves) {
    button.addEventListener("click", () => {
      slider.value = Number(slider.value) + Number(button.dataset.move);
      show();
    });
  }
  slider.addEventListener("input", show);
  picture.querySelector(".steps").hidden = steps.length < 2;
  show();
}

// Where the picture is wider than the window: what is wrong, or what is moved, is in the middle.
function turnToWhatIsWrong(step) {
  const scrolled = step.closest(".wide");
  if (scrolled.scrollWidth <= scrolled.clientWidth) return;
  const marks = [...step.querySelectorAll(".missing, .ring, .stale, .stop, .bite")]
    .map((mark) => mark.getBoundingClientRect());
  if (!marks.length) return;
  const middle = (marks[0].left + marks[0].right) / 2 - scrolled.getBoundingClientRect().left;
  scrolled.scrollLeft += middle - scrolled.clientWidth / 2;
}

// --- What every part of a page gets ---------------------------------------------------------------

function enliven(part) {
  part.querySelectorAll(".leafed").forEach(stepThrough);
  for (const button of part.querySelectorAll(".copy")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
}

// --- A single file: findings are unpacked when they are looked at ----------------------------------

async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

async function turnTo(one, overview) {
  const name = new URLSearchParams(location.hash.slice(1)).get("finding");
  const found = name && document.querySelector(`[data-packed="${CSS.escape(name)}"]`);
  if (found) {
    one.innerHTML = await unpacked(found.textContent);
    enliven(one);
  }
  overview.hidden = Boolean(found);
  one.hidden = !found;
  if (found) {
    scrollTo(0, 0);
    one.querySelector("h1").focus();
  }
}

if (table) listFindings();
enliven(document);
const one = document.getElementById("one");
if (one) {
  const overview = document.getElementById("overview");
  addEventListener("hashchange", () => turnTo(one, overview));
  turnTo(one, overview);
}
