// The page works without this script. With it, results change in place, failures are tried again, and keys work.
"use strict";

const PARTS = ["count", "language", "state", "panel", "query", "upload-state", "messages", "results", "footer"];
const byId = (id) => document.getElementById(id);
const said = document.body.dataset;
let shown = keyOf(location.href);
let running = null;
let retryTimer = 0;
let failures = 0;

// The parts of an address that decide about the results: two addresses with one key show the same results.
function keyOf(href) {
  const { searchParams } = new URL(href, location.href);
  for (const name of ["open", "labels", "language"]) searchParams.delete(name); // another language is another document
  searchParams.sort();
  return searchParams.toString();
}

function busy(on) {
  if (on) said.busy = "";
  else delete said.busy;
  byId("go").setAttribute("aria-disabled", String(on));
  byId("results").setAttribute("aria-busy", String(on));
  if (on) byId("status").textContent = said.searching;
}

// Show the page at an address in place. A failed request is tried again until another one begins.
async function show(href, { push = true, body = null, scroll = null } = {}) {
  running?.abort();
  clearTimeout(retryTimer);
  const own = (running = new AbortController());
  const wait = setTimeout(() => own.abort("late"), 120000);
  busy(true);
  let response, text;
  try {
    response = await fetch(href, { signal: own.signal, ...(body && { method: "POST", body }) });
    text = await response.text();
  } catch (error) {
    if (own !== running) return; // another request has begun
    busy(false);
    keepOlder();
    failures += 1;
    say(said.away, () => show(href, { push, body, scroll }));
    return;
  } finally {
    clearTimeout(wait);
  }
  if (own !== running) return;
  busy(false);
  const page = new DOMParser().parseFromString(text, "text/html");
  if (!page.getElementById("results")) {
    if (response.status === 413) say(said.tooLarge, null, true);
    else say(text.trim().slice(0, 200));
    return;
  }
  if (push) history.replaceState({ ...history.state, scroll: scrollY }, "");
  // The response to a refused upload shows the page of before, and its own address cannot be reloaded.
  const isPage = new URL(response.url).pathname === "/";
  if (push && isPage && response.url !== location.href) history.pushState({}, "", response.url);
  failures = page.querySelector("#messages[data-retry]") ? failures + 1 : 0;
  swap(page);
  shown = keyOf(location.href);
  if (scroll !== null) scrollTo(0, scroll);
  else if (push) scrollTo({ top: 0 });
  syncDialog();
}

function swap(page) {
  const focused = document.activeElement;
  const failed = page.querySelector("#messages[data-retry]") && !page.querySelector(".tile");
  for (const part of PARTS) {
    const fresh = page.getElementById(part);
    if (part === "results" && failed) { // older results stay, dimmed, while the page tries again
      keepOlder();
    } else byId(part).replaceWith(document.adoptNode(fresh));
  }
  for (const id of ["q", "without"]) {
    const field = byId(id);
    const fresh = page.getElementById(id);
    field.defaultValue = fresh.getAttribute("value") || "";
    field.value = field.defaultValue;
    field.placeholder = fresh.placeholder;
  }
  byId("filter-button").textContent = page.getElementById("filter-button").textContent;
  document.title = page.title;
  // What had the focus may be gone, such as a chip that was removed: the next Tab goes to the results.
  if (focused && !focused.isConnected) (successor(focused) || byId("results")).focus({ preventScroll: true });
  settle();
  retryLater();
}

// The results of the earlier query stay while the page tries again. They are dimmed, and the page says what they are.
function keepOlder() {
  byId("results").setAttribute("data-stale", "");
  byId("status").textContent = byId("results").dataset.earlier;
}

// Say one thing above the results; with `again`, count down and do that.
function say(text, again = null, choose = false) {
  const message = document.createElement("div");
  message.className = "message";
  const line = document.createElement("p");
  line.append(text, " ");
  message.append(line);
  if (again) {
    const left = document.createElement("span");
    left.className = "retrying";
    line.append(left);
    const link = document.createElement("a");
    link.href = location.href;
    link.className = "button primary";
    link.textContent = said.again;
    link.addEventListener("click", (event) => { event.preventDefault(); event.stopPropagation(); again(); });
    message.append(link);
  }
  if (choose) {
    const label = document.createElement("label");
    label.className = "button primary";
    label.htmlFor = "file";
    label.textContent = said.choosePicture;
    message.append(label);
  }
  const dismiss = document.createElement("button");
  dismiss.type = "button";
  dismiss.className = "dismiss";
  dismiss.textContent = said.dismiss;
  message.append(dismiss);
  byId("messages").replaceChildren(message);
  if (again) countDown(again);
}

function countDown(again) {
  let left = Math.min(30, 2 ** Math.min(failures, 5));
  const tick = () => {
    for (const place of document.querySelectorAll(".retrying")) place.textContent = said.retrying.replace("{seconds}", left);
    if (left <= 0 && !document.querySelector("dialog:modal")) again(); // nobody is disturbed who looks at a picture
    else { left = Math.max(0, left - 1); retryTimer = setTimeout(tick, 1000); }
  };
  tick();
}

function retryLater() {
  if (document.querySelector("#messages[data-retry] .message")) {
    const href = location.href;
    countDown(() => show(href, { push: false, scroll: scrollY }));
  }
}

// Dialogs: the address says which one is open.
function syncDialog() {
  const wanted = new URL(location.href).searchParams.get("open") || "";
  const first = document.querySelector(".picture[open]");
  const target = byId(`open-${wanted}`) || (["first", "last"].includes(wanted) ? first : null);
  for (const dialog of document.querySelectorAll(".picture[open]")) {
    if (!dialog.matches(":modal")) dialog.removeAttribute("open"); // as the server wrote it: it never was modal
    else if (dialog !== target) { dialog.synced = true; dialog.close(); }
  }
  if (target && !target.open) {
    target.synced = false;
    target.showModal();
    target.scrollTop = 0;
  }
}

function openDialog(id, href) {
  const inside = document.querySelector(".picture:modal");
  if (inside) history.replaceState(history.state, "", href);
  else history.pushState({ opened: true }, "", href);
  syncDialog();
  byId(`open-${id}`).querySelector(".close").focus();
}

document.addEventListener("close", (event) => {
  if (event.target === filters) return;
  if (!(event.target instanceof HTMLDialogElement) || event.target.synced || event.target.open) return;
  if (!new URL(location.href).searchParams.get("open")) return;
  const id = event.target.id.replace("open-", "");
  const { opened, ...state } = history.state || {};
  history.replaceState(state, "", event.target.querySelector(".close").href); // at once: going back takes a while
  if (opened) history.back();
  document.querySelector(`.frame[data-open="${id}"]`)?.focus();
}, true);

document.addEventListener("click", (event) => {
  if (event.target instanceof HTMLDialogElement) { // beside the dialog
    if (event.target.matches(":modal")) event.target.close();
    return;
  }
  if (event.target.closest("#filter-button")) {
    if (filters.open) filters.close();
    else openFilters();
    return;
  }
  if (event.target.closest("#filters .close")) { filters.close(); return; }
  if (event.target.closest(".dismiss")) {
    clearTimeout(retryTimer);
    event.target.closest(".message").remove();
    byId("results").focus({ preventScroll: true }); // the field would open the keyboard of a phone
    return;
  }
  const link = event.target.closest("a");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || link.target || link.hasAttribute("download")) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || url.pathname !== "/" || link.id === "language" || link.closest("h1") || link.className === "skip") return;
  event.preventDefault();
  if (filters.matches(":modal")) filters.close();
  if (link.className === "close") { link.closest("dialog").close(); return; }
  if (link.dataset.open) { openDialog(link.dataset.open, link.href); return; }
  show(link.href);
});

document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target.id === "upload") { send(byId("file").files[0]); return; }
  const href = formHref(event.target);
  if (event.target.className === "classify") { classify(event.target, href); return; }
  if (running && "busy" in said && running.href === href) return; // the button waits
  clearTimeout(countTimer);
  counting?.abort();
  if (filters.matches(":modal")) filters.close();
  show(href);
  running.href = href;
});

async function classify(form, href) {
  const button = form.querySelector("button");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  const dialog = form.closest("dialog");
  const answers = dialog.querySelector(".answers");
  try {
    const text = await (await fetch(href, { signal: AbortSignal.timeout(120000) })).text();
    const page = new DOMParser().parseFromString(text, "text/html");
    const found = page.querySelector(".picture[open] .answers")?.childNodes;
    answers.replaceChildren(...(found || [page.querySelector(".message p")?.firstChild.textContent || said.away]));
    if (dialog.matches(":modal")) history.replaceState(history.state, "", href); // it may have been closed meanwhile
  } catch {
    answers.textContent = said.away;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function send(file) {
  if (!file) return;
  byId("file").value = "";
  if (file.size > Number(said.uploadMib) * 2 ** 20) { say(said.tooLarge, null, true); return; }
  const body = new FormData();
  for (const field of byId("upload-state").querySelectorAll("input")) body.append(field.name, field.value);
  body.set("q", byId("q").value); // words and phrases that were typed and not sent yet
  body.append("without", byId("without").value);
  body.append("file", file);
  show("/uploads", { body });
}

document.addEventListener("change", (event) => {
  if (event.target.id === "file") send(event.target.files[0]);
  if (event.target.id === "weight") byId("search").requestSubmit();
});

document.addEventListener("keydown", (event) => {
  const dialog = document.querySelector(".picture:modal");
  const typing = event.target.matches("input:not([type=checkbox], [type=range]), textarea");
  if (dialog && !typing && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
    dialog.querySelector(event.key === "ArrowLeft" ? "[rel=prev]" : "[rel=next]")?.click();
    event.preventDefault();
  } else if (!document.querySelector("dialog:modal") && !typing && event.key === "/") {
    byId("q").focus();
    event.preventDefault();
  } else if (event.key === "Escape" && !dialog && filters.open && !filters.matches(":modal")) {
    filters.close();
  }
});

addEventListener("popstate", () => {
  const scroll = history.state?.scroll ?? 0;
  if (keyOf(location.href) === shown) syncDialog();
  else show(location.href, { push: false, scroll });
});

// Pictures that are dropped or pasted.
let inside = 0;
addEventListener("dragenter", (event) => { if (event.dataTransfer?.types.includes("Files")) { inside += 1; said.dropping = ""; } });
addEventListener("dragleave", () => { inside = Math.max(0, inside - 1); if (!inside) delete said.dropping; });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  inside = 0;
  delete said.dropping;
  if (event.dataTransfer?.files.length) { event.preventDefault(); send(event.dataTransfer.files[0]); }
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
  if (file) send(file);
});

syncDialog();
retryLater();
