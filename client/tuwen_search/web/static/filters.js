// The panel of filters. Loaded after page.js, whose functions it uses.
"use strict";

// The filters: a sheet over the page on a phone, beside the results on a wide window, where they stay open.
const wide = matchMedia("(min-width: 900px)");
const filters = byId("filters");
let counting = null;
let countTimer = 0;

function openFilters() {
  if (wide.matches) filters.show();
  else filters.showModal();
  byId("filter-button").setAttribute("aria-expanded", "true");
  filters.querySelector(".close").focus({ preventScroll: wide.matches });
}

filters.addEventListener("close", () => {
  byId("filter-button").setAttribute("aria-expanded", "false");
  byId("filter-button").focus({ preventScroll: true });
});

wide.addEventListener("change", () => {
  if (filters.open) { filters.close(); openFilters(); }
});

// The address that the form leads to. A value that is the default stays out of it.
function formHref(form) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) query.append(name, value);
  if (form.id === "search" && byId("least")) {
    const standard = byId("least").dataset.default;
    const all = query.has("all");
    if (all || query.get("score") === standard) query.delete("score");
    if (standard === "all") query.delete("all");
  }
  return `/?${query}`;
}

// The button that applies the filters has no effect until one of them is changed.
let applied = "";
function settle() {
  applied = formHref(byId("search"));
  byId("apply").disabled = true;
}
settle();

// The new element in the place of one that was replaced; null if it is not shown any more or cannot have the focus.
function successor(old) {
  if (old.id) return byId(old.id)?.disabled ? null : byId(old.id);
  return [...byId("panel").querySelectorAll("input")].find((one) => one.name === old.name && (one.type !== "checkbox" || one.value === old.value));
}

filters.addEventListener("input", (event) => {
  const [slider, all] = [byId("least-score"), filters.querySelector("[name=all]")];
  if (slider && [slider, all].includes(event.target)) {
    if (event.target === slider) all.checked = false;
    filters.querySelector("output").textContent = all.checked ? "–" : Number(slider.value).toFixed(2);
  }
  byId("apply").disabled = formHref(byId("search")) === applied;
  clearTimeout(countTimer);
  countTimer = setTimeout(countFound, 300);
});

// Write on the button how many pictures the filters would show, and beside each value how many have it.
async function countFound() {
  counting?.abort();
  counting = new AbortController();
  const { signal } = counting;
  const wait = setTimeout(() => counting.abort(), 20000);
  try {
    const text = await (await fetch(formHref(byId("search")), { signal })).text();
    const page = new DOMParser().parseFromString(text, "text/html");
    if (signal.aborted) return;
    for (const selector of ["#apply", "#least-hint", "#counts-hint", ".choice .hint", "legend .hint"]) {
      const [places, fresh] = [document, page].map((one) => one.querySelectorAll(`#panel ${selector}`));
      if (places.length === fresh.length) places.forEach((place, index) => place.replaceChildren(...fresh[index].childNodes));
    }
  } catch { // the button keeps its words, and works
  } finally {
    clearTimeout(wait);
  }
}
