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

  // One entry per claim: its evidence, and its row in a forest plot where it has one.
  const rows = new Map(all(".suite > .forests tbody tr").map((row) => [(one("a[href]", row) || row).hash, row]));
  const claims = all("details.claim").map((details) => {
    const anchor = "#" + one(".body", details).id;
    const row = rows.get(anchor);
    return {
      details,
      anchor,
      row,
      suite: details.closest(".suite"),
      around: [details.closest(".suite"), details.closest(".came-to, details.group"), row && row.closest("table")],
      verdict: details.classList[1],
      text: (one("summary", details).textContent + " " + one(".facts", details).textContent).toLowerCase(),
      hidden: false,
    };
  });

  // ---- Filters: kept in the address, so that a filtered view can be sent to somebody.
  const form = one("#filter");
  const said = one("#filter-result");
  const boxes = all(".suite, .suite .came-to, .suite details.group, .suite .batch, .suite > .forests, .suite > .forests tbody");
  // What a filter hides in the suites that it shows. A class further up would style every claim of the page anew.
  const kept = ".kicker, h2, .forests, .came-to, details.group";
  const asides = all(".suite").map((suite) => [suite, [...suite.children].filter((part) => !part.matches(kept))]);
  const gone = new Set(); // elements that the filter hides
  function hide(element, yes) {
    if (gone.has(element) === yes) return;
    if (yes) gone.add(element);
    else gone.delete(element);
    element.classList.toggle("filtered", yes);
  }

  function filter() {
    const verdicts = new Set(all("input[name=verdict]:checked", form).map((box) => box.value));
    const suite = form.elements.suite.value;
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const open = new Set();
    let count = 0;
    for (const claim of claims) {
      claim.hidden = !(
        (!verdicts.size || verdicts.has(claim.verdict)) &&
        (!suite || claim.suite.id === suite) &&
        words.every((word) => claim.text.includes(word))
      );
      if (claim.hidden) continue;
      count += 1;
      for (const box of claim.around) open.add(box);
      open.add(claim.details.parentNode);
      if (claim.row) open.add(claim.row.parentNode);
    }
    for (const box of boxes) hide(box, !open.has(box));
    // What stands in a hidden box is left as it is: most claims of a large page never change.
    for (const { details, row, hidden } of claims) {
      if (open.has(details.parentNode)) hide(details, hidden);
      if (row && open.has(row.parentNode)) hide(row, hidden);
    }
    const narrowed = count < claims.length;
    for (const [suite, parts] of asides) if (open.has(suite)) for (const part of parts) hide(part, narrowed);
    // What is found must be seen: folded groups that hold it are opened.
    if (narrowed) for (const box of boxes) if (box.matches("details.group")) box.open = open.has(box);
    said.textContent = narrowed ? `${count} of ${claims.length} claims are shown.` : `All ${count} claims are shown.`;
    const state = new URLSearchParams();
    verdicts.forEach((verdict) => state.append("verdict", verdict));
    if (suite) state.set("suite", suite);
    if (words.length) state.set("text", form.elements.text.value);
    if (form.elements.order.value) state.set("order", form.elements.order.value);
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
    for (const name of ["suite", "order"]) {
      form.elements[name].value = state.get(name) || "";
      if (form.elements[name].selectedIndex < 0) form.elements[name].value = "";
    }
    form.elements.text.value = state.get("text") || "";
    return [...state.keys()].length > 0;
  }

  // ---- Order of the rows of each forest plot; headings would not fit another order than the suite's.
  const plots = all(".suite > .forests").map((table) => [table, all("tbody tr:not(.group)", table)]);
  const byRow = new Map(claims.map((claim) => [claim.row, claim]));
  const number = (text) => (text === undefined ? Infinity : Number(text));
  const keys = {
    distance: (row) => number((one("[data-distance]", row) || { dataset: {} }).dataset.distance),
    change: (row) => {
      const claim = byRow.get(row);
      return claim && claim.details.dataset.change ? -Number(claim.details.dataset.change) : Infinity;
    },
  };
  function arrange() {
    const key = keys[form.elements.order.value];
    for (const [table, inOrder] of plots) {
      const wanted = key ? inOrder.map((row) => [key(row), row]).sort(([a], [b]) => (a === b ? 0 : a - b)).map(([, row]) => row) : inOrder;
      const marks = all("tbody tr:not(.group)", table).map((row) => {
        const mark = document.createComment("");
        row.replaceWith(mark);
        return mark;
      });
      marks.forEach((mark, place) => mark.replaceWith(wanted[place]));
      table.classList.toggle("arranged", Boolean(key));
    }
  }

  if (form && claims.length) {
    form.hidden = false;
    let waiting = 0;
    form.addEventListener("input", (event) => {
      if (event.target.name === "order") arrange();
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(filter);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () =>
      setTimeout(() => {
        arrange();
        filter();
      }),
    );
    if (restore()) {
      if (form.elements.order.value) arrange();
      filter();
    }
    one("#open-all").addEventListener("click", () => setAll(true));
    one("#close-all").addEventListener("click", () => setAll(false));
  }
  function setAll(open) {
    for (const { details, hidden } of claims) if (!open || !hidden) details.open = open;
    all(".suite details.group").forEach((box) => (box.open = open));
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
    one(".facts", details).append(" ", make("a", { className: "permalink", href: anchor }, "Link to this claim"));
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

  // ---- Give wide tables a tab stop, so that the arrow keys can move them.
  const sized = new ResizeObserver((entries) => {
    const boxes = entries.map((entry) => entry.target);
    const wide = boxes.filter((box) => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight);
    wide.forEach((box) => (box.tabIndex = 0)); // after all were measured: to write in between lays all out again
  });
  all(".scroll, pre").forEach((box) => sized.observe(box));
})();
