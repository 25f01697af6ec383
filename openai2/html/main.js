// The program of the page: the data, the state and its address, the controls and keys.

function* readRowBlocks() {
  for (const block of document.querySelectorAll("script.rows")) {
    yield JSON.parse(block.textContent);
    block.remove();
  }
}

const about = JSON.parse(document.querySelector("script.about").textContent);
const textBlocks = document.querySelectorAll("script.texts");
const texts = new Texts(about.texts, (index) => JSON.parse(textBlocks[index].textContent));
const streams = readStreams(about, readRowBlocks());
const branchOrder = layOutBranches(streams);

// -- state and address ---------------------------------------------------------------------------------------------

const state = {branch: null, number: 0, beside: null}; // beside: null, or {branch, number} of the other branch
let saveTimer = 0, frame = 0, isNewBranch = false;

/** Show event *number* of a branch. *settled*: the address is right already. *scroll*: scroll as for a new branch. */
function go(branch, number, {beside = state.beside, settled = false, scroll = false} = {}) {
  isNewBranch = isNewBranch || scroll || branch !== state.branch;
  Object.assign(state, {branch, number: clamp(number, 1, branch.size), beside});
  $("slider").max = String(branch.size);
  frame = frame || requestAnimationFrame(paint);
  clearTimeout(saveTimer);
  if (!settled) saveTimer = setTimeout(saveAddress, 250);
}

const goTo = (number) => go(state.branch, number);
const goBy = (count) => goTo(state.number + count);

function goToBranch(by) {
  const branch = branchOrder[clamp(state.branch.row + by, 0, branchOrder.length - 1)];
  if (branch !== state.branch) go(branch, branch.size);
}

function toggleCompare() {
  if (!state.beside && streams.length < 2) { showNotice(t("alone")); return; }
  const other = state.branch.parent || branchOrder[state.branch.row + 1] || branchOrder[state.branch.row - 1];
  go(state.branch, state.number, {beside: state.beside ? null : {branch: other, number: other.size}, scroll: true});
}

function paint() {
  cancelAnimationFrame(frame);
  const isNew = isNewBranch, {branch, beside} = state, {stream, version} = locate(branch, state.number);
  frame = 0;
  isNewBranch = false;
  const inherited = stream === branch ? "" : nameOf(stream), event = describe(stream, version);
  document.title = `${nameOf(branch)} @${inherited && `${inherited}@`}${version}`;
  $("title").textContent = nameOf(branch);
  $("subtitle").textContent = `${inherited}@${version}`;
  $("slider").value = String(state.number);
  $("slider").setAttribute("aria-valuetext", `${t("counter", {n: state.number, all: branch.size})}: ${event.text}`);
  $("counter").textContent = t("counter", {n: state.number, all: numberFormat.format(branch.size)});
  for (const id of ["first", "previous"]) $(id).disabled = state.number <= 1;
  for (const id of ["next", "last"]) $(id).disabled = state.number >= branch.size;
  paintCaption(stream, version, event);
  paintLists(isNew);
  if (isNew) paintMarks();
  $("columns").hidden = !beside;
  $("compare").setAttribute("aria-pressed", String(Boolean(beside)));
  if (beside) paintPairs(isNew); else paintChat(isNew);
  highlight();
}

function address() {
  const addressAt = (branch, number) => { const {stream, version} = locate(branch, number); return addressOf(stream, version); };
  const {branch, number, beside} = state;
  return addressAt(branch, number) + (beside ? `..${addressAt(beside.branch, beside.number).slice(1)}` : "");
}

/** Put the state into the address. */
function saveAddress() {
  clearTimeout(saveTimer);
  if (address() === location.hash) return;
  try { history.pushState({branch: state.branch.place}, "", address()); } catch (_) { location.hash = address(); }
}

/** Go where the address says. Return false if it says nothing, or an unknown place. */
function openAddress() {
  const hash = location.hash.slice(1);
  if (!hash) return false;
  const [here, beside = null] = hash.split("..").map((text) => parsePlace(streams, text));
  if (!here || (!beside && hash.includes(".."))) {
    let place = hash;
    try { place = decodeURIComponent(hash); } catch (_) { /* shown as it is */ }
    showNotice(t("nowhere", {place: visible(place)}));
    return false;
  }
  // The address of an inherited event names the ancestor; the history entry says which fork was open.
  const saved = history.state && streams[history.state.branch];
  if (saved && here.number <= saved.size && locate(saved, here.number).stream === here.branch) here.branch = saved;
  go(here.branch, here.number, {beside, settled: true});
  return true;
}

function openDefault() {
  const branch = streams[about.opened];
  go(branch, branch.size, {beside: null, settled: true});
}

// -- theme, menu, notices -------------------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  $("theme").title = `${t("theme")}: ${t(`theme_${name}`)}`;
  try { localStorage.setItem("openai2-theme", name); } catch (_) { /* no storage: it lasts for this visit */ }
  paintMarks();
}

function nextTheme() {
  const current = document.documentElement.dataset.theme || "auto", name = THEMES[(THEMES.indexOf(current) + 1) % 3];
  setTheme(name);
  showNotice(t(`theme_${name}`));
}

function closeMenu() {
  document.body.classList.remove("menu-open");
  $("menu").setAttribute("aria-expanded", "false");
}

let noticeTimer = 0;

function showNotice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { $("notice").hidden = true; }, 4000);
}

// -- controls and keys ------------------------------------------------------------------------------------------------

const HELP = [["← →", "k_arrows"], ["Home End", "k_ends"], ["[ ]", "k_branches"], ["/", "k_find"], ["c", "k_compare"], ["t", "k_theme"], ["?", "k_help"], ["Esc", "k_close"]];
const KEYS = {
  ArrowLeft: (event) => goBy(event.shiftKey ? -10 : -1), ArrowRight: (event) => goBy(event.shiftKey ? 10 : 1),
  Home: () => goTo(1), End: () => goTo(state.branch.size), "[": () => goToBranch(-1), "]": () => goToBranch(1),
  "/": openSearch, "?": () => $("keys").showModal(), c: toggleCompare, t: nextTheme, Escape: closeMenu,
};
const BUTTONS = {
  first: KEYS.Home, previous: () => goBy(-1), next: () => goBy(1), last: KEYS.End, find: openSearch, compare: toggleCompare, theme: nextTheme,
  help: KEYS["?"], shade: closeMenu,
  menu: () => $("menu").setAttribute("aria-expanded", String(document.body.classList.toggle("menu-open"))),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  const field = event.target.closest && event.target.closest("input, select, textarea");
  if ((field && field !== $("slider")) || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key](event);
}

function fillInTexts() {
  document.documentElement.lang = CHINESE ? "zh" : "en";
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = t(element.dataset.word);
  for (const element of document.querySelectorAll("[data-title]")) {
    element.title = t(element.dataset.title);
    element.setAttribute("aria-label", element.title);
  }
  for (const [keys, word] of HELP) $("key-list").append(el("dt", "", ...keys.split(" ").map((key) => el("kbd", "", key))), el("dd", "", t(word)));
  $("about-page").textContent = t("about");
  $("branch-count").textContent = numberFormat.format(streams.length);
}

function begin() {
  fillInTexts();
  let theme = "auto";
  try { theme = localStorage.getItem("openai2-theme"); } catch (_) { /* no storage: as the system is set */ }
  setTheme(THEMES.includes(theme) ? theme : "auto");
  if (!streams.some((stream) => stream.rows.length)) {
    $("chat").append(el("p", "empty", t("nothing")));
    $("controls").hidden = true;
    return;
  }
  document.addEventListener("keydown", onKey);
  for (const [id, act] of Object.entries(BUTTONS)) $(id).addEventListener("click", act);
  $("slider").addEventListener("input", () => goTo(Number($("slider").value)));
  $("slider").addEventListener("change", saveAddress);
  $("other").addEventListener("change", () => {
    const branch = streams[Number($("other").value)];
    go(state.branch, state.number, {beside: {branch, number: branch.size}, scroll: true});
  });
  new ResizeObserver(paintMarks).observe($("marks"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintMarks);
  window.addEventListener("popstate", () => { if (!openAddress() && !location.hash) openDefault(); });
  window.addEventListener("hashchange", openAddress);
  window.addEventListener("beforeprint", () => { if (frame) paint(); chatList.print(true); });
  window.addEventListener("afterprint", () => chatList.print(false));
  if (!openAddress()) openDefault();
  paint(); // the first view at once, not with the next frame
}

begin();
