// Search: the dialog, the search through all texts in slices of time, and the highlights in the chat.

const MAX_RESULTS = 200;
let searchTimer = 0, inputTimer = 0, words = [], selected = -1;
const dialog = $("search"), results = $("results");

/** Search for messages and events with all words of *text*; a result is added as soon as it is found. */
function search(text) {
  clearTimeout(searchTimer);
  words = text.toLowerCase().split(/\s+/).filter(Boolean);
  results.replaceChildren();
  selected = -1;
  $("progress").textContent = "";
  highlight();
  if (!words.length) return;
  const matches = findMatches();
  let count = 0;
  const run = () => {
    const until = performance.now() + 14;
    let done = false;
    while (!done && performance.now() < until) {
      const {value} = matches.next();
      if (value && value.percent !== undefined) $("progress").textContent = t("searching", value);
      else if (value) results.append(drawMatch(value));
      if (!value || (value.stream && ++count >= MAX_RESULTS)) done = true;
    }
    if (done) $("progress").textContent = count >= MAX_RESULTS ? t("found_most", {n: count}) : count ? t("found", {n: count}) : t("not_found");
    else searchTimer = setTimeout(run, 0);
  };
  run();
}

/** Yield the matches {stream, version, text, role?}, and before each block of texts {percent}. */
function* findMatches() {
  const matches = (text) => { const lower = text.toLowerCase(); return words.every((word) => lower.includes(word)); };
  for (const stream of streams) {
    for (let version = 1; version <= stream.rows.length; version++) {
      const row = rowOf(stream, version);
      if (row.type === "message_added" || !row.data) continue;
      const text = Object.values(row.data).filter((value) => typeof value === "string").join(" ");
      if (text && matches(text)) yield {stream, version, text};
    }
  }
  for (let block = 0; block < textBlocks.length; block++) {
    yield {percent: Math.floor(100 * block / textBlocks.length)};
    for (const [place, version, parts] of JSON.parse(textBlocks[block].textContent)) {
      const text = searchableText(parts);
      if (matches(text)) yield {stream: streams[place], version, text, role: parts.message && parts.message.role};
    }
  }
}

function searchableText({message, partial, choices, reasoning}) {
  const found = [];
  for (const {content, refusal, tool_calls} of [message, partial, ...(choices || []).map((choice) => choice.message || choice)].filter(Boolean)) {
    for (const part of Array.isArray(content) ? content : [content, refusal]) {
      if (typeof part === "string") found.push(part); else if (part && typeof part.text === "string") found.push(part.text);
    }
    for (const call of Array.isArray(tool_calls) ? tool_calls : []) if (call.function) found.push(`${call.function.name} ${call.function.arguments}`);
  }
  if (reasoning) found.push(reasoning);
  return found.join("\n");
}

/** Yield [start, end] of each place where *text* has a searched word, from left to right. */
function* wordPlaces(text) {
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return; // then the places in both differ
  for (let from = 0; from < text.length;) {
    const places = words.map((word) => [lower.indexOf(word, from), word.length]).filter(([at]) => at >= 0);
    if (!places.length) return;
    const [start, size] = places.reduce((a, b) => b[0] < a[0] ? b : a);
    yield [start, start + size];
    from = start + size;
  }
}

function drawMatch({stream, version, text, role}) {
  const [first] = wordPlaces(text).next().value || [0];
  const excerpt = visible(text.slice(Math.max(0, first - 40), first + 140));
  const link = el("a", "", el("span", "", `${nameOf(stream)} @${version}${role ? " · " + roleName(role) : ""}`));
  let done = 0;
  for (const [start, end] of wordPlaces(excerpt)) {
    link.append(excerpt.slice(done, start), el("mark", "", excerpt.slice(start, end)));
    done = end;
  }
  link.append(excerpt.slice(done));
  const target = joinVersion(stream, version);
  link.href = addressOf(stream, target);
  onPlainClick(link, () => {
    dialog.close();
    go(stream, stream.base + target, {beside: null});
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const index = chatList.items.findIndex((item) => item.id === stream.base + version);
      if (index >= 0) chatList.reveal(index, "start");
      highlight();
    }));
  });
  return el("li", "", link);
}

function moveSelection(by) {
  const links = results.querySelectorAll("a");
  if (!links.length) return;
  if (links[selected]) links[selected].removeAttribute("aria-selected");
  selected = clamp(selected + by, 0, links.length - 1);
  links[selected].setAttribute("aria-selected", "true");
  links[selected].scrollIntoView({block: "nearest"});
}

/** Mark the searched words in the chat, by ranges: the document stays as it is. */
function highlight() {
  if (!CSS.highlights) return;
  const ranges = [], walker = document.createTreeWalker($("chat"), NodeFilter.SHOW_TEXT);
  while (words.length && ranges.length < 500 && walker.nextNode()) {
    const node = walker.currentNode;
    for (const [start, end] of wordPlaces(node.data.slice(0, LONG))) {
      const range = new Range();
      range.setStart(node, start);
      range.setEnd(node, end);
      ranges.push(range);
    }
  }
  if (ranges.length) CSS.highlights.set("found", new Highlight(...ranges)); else CSS.highlights.delete("found");
}

function openSearch() {
  if (dialog.open) return;
  dialog.showModal();
  $("query").focus();
  $("query").select();
}

$("query").addEventListener("input", () => { clearTimeout(inputTimer); inputTimer = setTimeout(() => search($("query").value), 120); });
$("query").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") moveSelection(1);
  else if (event.key === "ArrowUp") moveSelection(-1);
  else if (event.key === "Escape") dialog.close();
  else if (event.key === "Enter") { const link = results.querySelectorAll("a")[Math.max(0, selected)]; if (link) link.click(); }
  else return;
  event.preventDefault();
});
