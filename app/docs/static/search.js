// The search of the documents: it runs in the browser, over all sections, which are asked for at the first key.

const MOST = 30;
const REFERENCE = /^(adr\/|project\/|errors$|source-map$|modules$|format$)/; // behind the pages that say how something is done
const AROUND = 90; // characters before and after a word that was found

const field = document.getElementById("search");
const results = document.getElementById("results");
const article = document.querySelector("article");
let sections = null;

async function load() {
  sections ??= fetch("/docs/search.json").then((answer) => answer.json());
  return sections;
}

// Every word must be there. A word in a title counts more than one in the text, the beginning of a page's title more than
// its middle, and so does that of a word.
function score(section, words) {
  const page = section.page.toLowerCase();
  const title = `${page} ${section.title.toLowerCase()}`;
  const text = section.text.toLowerCase();
  let sum = 0;
  for (const word of words) {
    const inTitle = title.includes(word);
    if (!inTitle && !text.includes(word)) return 0;
    sum += (inTitle ? 10 : 0) + (page.startsWith(word) ? 5 : page.includes(word) ? 3 : 0);
    sum += (section.title.toLowerCase() === word ? 10 : 0) + (` ${text}`.includes(` ${word}`) ? 2 : 1);
  }
  return REFERENCE.test(section.name) ? sum / 2 : sum;
}

async function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  results.hidden = !words.length;
  article.hidden = words.length > 0;
  if (!words.length) return;
  const found = (await load())
    .map((section) => ({ section, points: score(section, words) }))
    .filter(({ points }) => points > 0)
    .sort((one, other) => other.points - one.points);
  results.replaceChildren(heading(found.length), list(found.slice(0, MOST), words));
}

function heading(count) {
  const title = document.createElement("h1");
  title.textContent = count ? `${count} found` : "Nothing found";
  return title;
}

function list(found, words) {
  const items = document.createElement("ol");
  items.className = "found";
  for (const { section } of found) items.append(item(section, words));
  return items;
}

function item(section, words) {
  const entry = document.createElement("li");
  const link = document.createElement("a");
  const text = document.createElement("p");
  link.href = `/docs/${section.name === "index" ? "" : section.name}${section.anchor ? `#${section.anchor}` : ""}`;
  link.textContent = section.title === section.page ? section.page : `${section.page}: ${section.title}`;
  link.addEventListener("click", () => { field.value = ""; search(); });
  text.textContent = excerpt(section.text, words);
  entry.append(link, text);
  return entry;
}

function excerpt(text, words) {
  const places = words.map((word) => text.toLowerCase().indexOf(word)).filter((place) => place >= 0);
  const place = places.length ? Math.min(...places) : 0;
  const from = Math.max(0, place - AROUND);
  const cut = text.slice(from, place + AROUND);
  return `${from ? "…" : ""}${cut}${place + AROUND < text.length ? "…" : ""}`;
}

field.form.addEventListener("submit", (event) => event.preventDefault());
field.addEventListener("input", search);
field.addEventListener("focus", load, { once: true });
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== field) {
    event.preventDefault();
    field.focus();
  }
});
const asked = new URLSearchParams(location.search).get("q");
if (asked) {
  field.value = asked;
  search();
}
