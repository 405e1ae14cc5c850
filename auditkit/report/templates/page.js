// What a script adds to the page: filters, sorting, links that open what they lead to, copying and saving. Everything
// that the run says is in the document already and stays there; text is only ever set as text.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // One entry per claim. The table of all claims and the evidence list claims in the same order.
  const rows = all("#claims tr.claim");
  const claims = all("details.claim").map((details, index) => ({
    details,
    row: rows[index],
    suite: details.closest(".suite"),
    verdict: details.classList[1],
    anchor: "#" + one(".body", details).id,
    text: (one("summary", details).textContent + " " + one(".facts", details).textContent).toLowerCase(),
  }));
  const points = new Map(all(".attention > li").map((item) => [one("a", item).getAttribute("href"), item]));

  // ---- Filters: kept in the address, so that a filtered view can be sent to somebody.
  const form = one("#filter");
  const said = one("#filter-result");
  const shown = (element, yes) => element && element.classList.toggle("filtered", !yes);

  function filter() {
    const verdicts = new Set(all("input[name=verdict]:checked", form).map((box) => box.value));
    const suite = form.elements.suite.value;
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const suites = new Set();
    const groups = new Set();
    let count = 0;
    for (const claim of claims) {
      const yes =
        (!verdicts.size || verdicts.has(claim.verdict)) &&
        (!suite || claim.suite.id === suite) &&
        words.every((word) => claim.text.includes(word));
      shown(claim.details, yes);
      shown(claim.row, yes);
      shown(points.get(claim.anchor), yes);
      if (yes) {
        count += 1;
        suites.add(claim.suite);
        groups.add(claim.row.parentNode);
      }
    }
    all(".suite").forEach((section) => shown(section, suites.has(section)));
    all("#claims tbody").forEach((body) => shown(body, groups.has(body)));
    said.textContent = count === claims.length ? `All ${count} claims are shown.` : `${count} of ${claims.length} claims are shown.`;
    const state = new URLSearchParams();
    verdicts.forEach((verdict) => state.append("verdict", verdict));
    if (suite) state.set("suite", suite);
    if (words.length) state.set("text", form.elements.text.value);
    const address = new URL(location.href);
    address.search = state.toString();
    try {
      history.replaceState(null, "", address);
    } catch {
      // Some viewers show the page under an address that may not be changed; the filter works all the same.
    }
  }

  function restore() {
    const state = new URLSearchParams(location.search);
    const verdicts = state.getAll("verdict");
    all("input[name=verdict]", form).forEach((box) => (box.checked = verdicts.includes(box.value)));
    form.elements.suite.value = state.get("suite") || "";
    if (form.elements.suite.selectedIndex < 0) form.elements.suite.value = "";
    form.elements.text.value = state.get("text") || "";
    return [...state.keys()].length > 0;
  }

  if (form && claims.length) {
    form.hidden = false;
    let waiting = 0;
    form.addEventListener("input", () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(filter);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    if (restore()) filter();
    one("#open-all").addEventListener("click", () => setAll(true));
    one("#close-all").addEventListener("click", () => setAll(false));
  }
  function setAll(open) {
    claims.forEach((claim) => {
      if (!open || !claim.details.classList.contains("filtered")) claim.details.open = open;
    });
  }

  // ---- Sorting the table of all claims; a third press brings the suites back.
  const table = one("table.claims");
  const severity = ["error", "fail", "inconclusive", "not_applicable", "pass"];
  const keys = {
    claim: (claim) => one("th", claim.row).textContent.toLowerCase(),
    verdict: (claim) => severity.indexOf(claim.verdict),
    effect: (claim) => {
      const cell = one("[data-value]", claim.row);
      return cell ? Number(cell.dataset.value) : NaN;
    },
    distance: (claim) => {
      const cell = one("[data-distance]", claim.row);
      return cell ? Number(cell.dataset.distance) : NaN;
    },
  };
  if (table) {
    const bodies = all("tbody", table);
    const places = new Map(rows.map((row) => [row, row.parentNode]));
    const single = make("tbody");
    const headers = all("th[data-sort]", table);
    for (const header of headers) {
      const button = make("button", { type: "button", className: "sort" }, header.firstChild);
      header.prepend(button);
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" };
        const order = next[header.getAttribute("aria-sort") || "none"];
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        if (order === "none") {
          rows.forEach((row) => places.get(row).append(row));
          single.remove();
          bodies.forEach((body) => table.append(body));
        } else {
          header.setAttribute("aria-sort", order);
          const key = keys[header.dataset.sort];
          const sign = order === "ascending" ? 1 : -1;
          const keyed = claims.map((claim) => [key(claim), claim.row]);
          keyed.sort(([a], [b]) => {
            if (a !== a || b !== b) return (a !== a) - (b !== b); // what was not measured comes last
            return a < b ? -sign : a > b ? sign : 0;
          });
          bodies.forEach((body) => body.remove());
          single.append(...keyed.map(([, row]) => row));
          table.append(single);
        }
      });
    }
  }

  // ---- Links open what they lead to, also when a filter hides it.
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest(".filtered")) {
      form.reset();
      filter();
    }
    for (let box = target.closest("details"); box; box = box.parentNode.closest("details")) box.open = true;
    target.scrollIntoView();
    const details = target.closest("details.claim");
    if (details) one("summary", details).focus({ preventScroll: true });
  }
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) setTimeout(reveal); // the same link once more
  });
  reveal();

  for (const { details, anchor } of claims) {
    one(".reason", details).append(" ", make("a", { className: "permalink", href: anchor }, "Link to this claim"));
  }

  // ---- Copying a command.
  async function copied(text, block) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      getSelection().selectAllChildren(block); // no access to the clipboard: the reader's own copy key works
      return document.execCommand("copy");
    }
  }
  for (const block of all("pre.command")) {
    const button = make("button", { type: "button", className: "copy" }, "Copy the command");
    const result = make("span", { className: "why" });
    result.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      const done = await copied(block.textContent, block);
      result.textContent = done ? " copied" : " selected; copy it with your keyboard";
    });
    block.after(make("p", { className: "tools" }, button, result));
  }

  // ---- Saving the record.
  const data = one("#audit-data");
  const save = one("#save");
  async function record() {
    if (!data.dataset.encoding) return data.textContent;
    const packed = Uint8Array.from(atob(data.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  }
  if (save && data) {
    save.hidden = false;
    save.addEventListener("click", async () => {
      const address = URL.createObjectURL(new Blob([await record()], { type: "application/json" }));
      make("a", { href: address, download: "audit.json" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    });
  }

  // ---- Print everything; give wide tables a tab stop, so that the arrow keys can move them.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    closed.forEach((box) => (box.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((box) => (box.open = false)));
  const sized = new ResizeObserver((entries) => {
    const boxes = entries.map((entry) => entry.target);
    const wide = boxes.filter((box) => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight);
    wide.forEach((box) => (box.tabIndex = 0)); // after all were measured: to write in between lays all out again
  });
  all(".scroll, pre").forEach((box) => sized.observe(box));
})();
