// The view: messages, branches, events and the timeline as elements of the page.

const $ = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const nameOf = (stream) => visible(stream.name || stream.id);

// -- parts of a message ------------------------------------------------------------------------------------------

const START = 6000;     // characters that are shown of a long text at first
const STYLED = 200000;  // characters: a longer text is not set as Markdown
const PIECE = 20000;    // characters of each block of a long plain text
const expanded = new Set(); // long texts that the reader expanded

/** Draw a text; a long one is shortened and gets a button. *rich*: set it as Markdown. */
function drawText(text, rich) {
  const box = el("div"), full = printing || text.length <= LONG || expanded.has(text);
  const part = full ? text : text.slice(0, START);
  if (rich && part.length <= STYLED) {
    appendMarkdown(box, part);
  } else {
    box.className = "plain";
    if (part.length <= LONG) appendText(box, part);
    else for (let at = 0; at < part.length;) {
      const line = part.lastIndexOf("\n", at + PIECE);
      let end = line > at ? line : at + PIECE;
      if (/[\ud800-\udbff]/.test(part[end - 1] || "")) end++; // keep surrogate pairs together
      const piece = el("div", "block");
      appendText(piece, part.slice(at, end));
      box.append(piece);
      at = line > at ? end + 1 : end;
    }
  }
  if (!full) {
    const button = el("button", "show-all", t("show_all", {size: formatBytes(new Blob([text]).size)}));
    button.addEventListener("click", () => { expanded.add(text); box.replaceWith(drawText(text, rich)); });
    box.append(el("span", "note", "… "), button);
  }
  return box;
}

/** Append what a message contains: text, pictures, tool calls, unknown fields. */
function appendParts(body, message, rich) {
  const {content} = message, calls = Array.isArray(message.tool_calls) ? message.tool_calls : [];
  for (const part of Array.isArray(content) ? content : content ? [content] : []) {
    const text = [part, part && part.text, part && part.refusal].find((value) => typeof value === "string");
    if (text !== undefined) body.append(drawText(text, rich));
    else if (part && part.image_url) body.append(drawPicture(String(part.image_url.url || part.image_url)));
    else body.append(drawFolded(t("part", {type: visible(part && typeof part === "object" ? part.type || "part" : typeof part)}), () => drawJson(part)));
  }
  if (typeof message.refusal === "string" && message.refusal) body.append(drawText(message.refusal, rich));
  for (const call of message.function_call ? [...calls, {function: message.function_call}] : calls) body.append(drawCall(call));
  const known = new Set(["role", "content", "refusal", "tool_calls", "function_call", "name", "tool_call_id"]);
  const others = Object.entries(message).filter(([field]) => !known.has(field));
  if (others.length) body.append(drawFolded(t("more_fields"), () => drawJson(Object.fromEntries(others))));
}

const EMBEDDED = /^data:image\/(png|jpe?g|gif|webp|avif|bmp);base64,/i;

function drawPicture(url) {
  if (!EMBEDDED.test(url)) return el("p", "note", t("image", {url: visible(url.slice(0, 300))}));
  const image = Object.assign(el("img"), {loading: "lazy", decoding: "async", alt: ""});
  image.addEventListener("error", () => image.replaceWith(el("p", "note", t("no_picture"))));
  image.src = url;
  return image;
}

function drawCall(call) {
  const target = (call && call.function) || call || {}, name = el("b"), pre = el("pre");
  appendText(name, visible(target.name || (call && call.type) || "?"));
  let value = target.arguments;
  if (value === undefined) value = target.input === undefined ? target : target.input;
  if (typeof value === "string" && value.length < LONG) {
    try { value = JSON.parse(value); } catch (_) { /* not JSON: shown as it is */ }
  }
  pre.append(drawText(typeof value === "string" ? value : JSON.stringify(value, null, 2), false));
  return el("div", "call", name, pre);
}

/** Draw a closed element whose content is drawn when it is opened. */
function drawFolded(title, draw) {
  const details = el("details", "", el("summary", "", el("span", "", title)));
  details.addEventListener("toggle", () => { if (details.childNodes.length === 1) details.append(draw()); });
  return details;
}

function drawJson(value) {
  const pre = el("pre", "plain"), text = JSON.stringify(value, null, 2);
  appendText(pre, text.length > STYLED ? text.slice(0, STYLED) + " …" : text);
  return pre;
}

/** Return the beginning of a message on one line. */
function summarize(message, limit = 120) {
  const {content} = message;
  let text = "";
  for (const part of Array.isArray(content) ? content : [content]) {
    if (text.length > limit) break;
    if (typeof part === "string") text += part.slice(0, limit * 2);
    else if (part) text += typeof part.text === "string" ? part.text.slice(0, limit * 2) : ` [${part.type || "part"}] `;
  }
  if (!text && typeof message.refusal === "string") text = message.refusal;
  for (const call of Array.isArray(message.tool_calls) ? message.tool_calls : []) {
    text += ` ${(call.function && call.function.name) || call.type}(${String((call.function && call.function.arguments) || "").slice(0, limit)})`;
  }
  text = visible(text.trim());
  return text.length > limit ? text.slice(0, limit - 1) + "…" : text;
}

// -- messages ------------------------------------------------------------------------------------------------------

const ROLES = {user: "user", assistant: "assistant", system: "system", developer: "system", tool: "tool", function: "tool"};
const roleName = (role) => Object.hasOwn(ROLES, role) ? t(role) : visible(role || "?");
const MARK_CLASSES = {added: "added", removed: "removed", now_pinned: "pinned", now_unpinned: "pinned", waiting: "waiting", aside: "waiting", unanswered: "waiting", came: "failed", remark: "waiting"};

/** Draw an item of `itemsAt`. */
function drawMessage(branch, item) {
  const {stream, version} = item.id ? locate(branch, item.id) : {};
  const row = stream ? rowOf(stream, version) : {}, text = stream ? texts.of(stream, version) : {};
  const message = item.message || text.message || {}, answer = (row.data && row.data.answer) || {};
  const box = el("article", `message ${Object.hasOwn(ROLES, message.role) ? ROLES[message.role] : "system"}`);
  const who = el("div", "who", el("span", "", [roleName(message.role), message.name ? visible(message.name) : ""].filter(Boolean).join(" · ")));
  if (item.pinned) {
    who.append(svg("svg", {viewBox: "0 0 20 20", role: "img", "aria-label": t("pinned")},
      svg("path", {d: "m8 3 9 9-2 .6-3 3-.6 3-8-8 3-.6 3-3zM7.5 12.5 3 17"}), svg("title", {}, t("pinned"))));
  }
  if (answer.stopped) who.append(el("span", "badge stopped", t("stopped")));
  for (const mark of item.marks) {
    who.append(el("span", `badge ${MARK_CLASSES[mark]}`, t(mark)));
    box.classList.add(`is-${MARK_CLASSES[mark]}`);
  }
  if (stream) who.append(drawTimeLink(stream, version, "more-meta time"));
  const body = el("div", "body");
  if (row.redacted) {
    const {reason} = (stream.redactions.get(version) || {data: {}}).data;
    body.append(el("span", "gone", reason ? t("redacted_why", {reason: visible(reason)}) : t("redacted")));
    if (message.tool_calls) appendParts(body, {tool_calls: message.tool_calls}, false);
  } else {
    if (text.reasoning) body.append(drawFolded(t("thinking"), () => drawText(text.reasoning, true)));
    appendParts(body, message, message.role === "assistant");
    (text.choices || []).forEach((choice, index) => body.append(drawFolded(t("choice", {n: index + 2}), () => {
      const inner = el("div");
      appendParts(inner, choice.message || choice, true);
      return inner;
    })));
  }
  box.append(who, body, drawFacts(answer));
  return box;
}

/** Draw what is recorded about an answer: model, tokens, duration, … */
function drawFacts(answer) {
  const meta = el("div", "meta");
  const add = (text, classes = "") => { if (text) meta.append(el("span", classes, text)); };
  add(answer.model && visible(answer.model));
  if (answer.usage && answer.usage.prompt_tokens !== undefined) {
    add(t("tokens", {asked: numberFormat.format(answer.usage.prompt_tokens), came: numberFormat.format(answer.usage.completion_tokens || 0)}));
  }
  if (answer.seconds !== undefined) add(t("seconds", {n: answer.seconds.toFixed(2)}));
  if (answer.finish_reason && answer.finish_reason !== "stop") add(visible(answer.finish_reason));
  if (answer.attempts && answer.attempts.length) add(t("tries", {n: answer.attempts.length}));
  if (answer.key) add(t("key", {key: visible(answer.key)}), "more-meta key");
  if (answer.id) add(visible(answer.id), "more-meta rare");
  return meta.childNodes.length ? meta : "";
}

/** Draw the time of an event, as a link to the event. */
function drawTimeLink(stream, version, classes) {
  return Object.assign(el("a", classes, formatTime(rowOf(stream, version).time)), {href: addressOf(stream, version), title: t("link")});
}

// -- events in words -------------------------------------------------------------------------------------------------

/** Describe an event: {text, by, failed}. */
function describe(stream, version) {
  const row = rowOf(stream, version), data = texts.data(stream, version);
  const plain = (value) => visible(value === null || value === undefined ? "" : value);
  const model = (value) => plain(value) || t("the_model");
  let text = visible(row.type), by = t("by_caller");
  switch (row.type) {
    case "message_added": {
      const message = texts.message(stream, version);
      text = `${roleName(message.role)}: ${row.redacted ? t("redacted") : summarize(message)}`;
      if (data.answer) by = t("by_model", {model: model(data.answer.model)});
      break;
    }
    case "created": text = data.name ? t("t_created_named", {name: plain(data.name)}) : t("t_created"); break;
    case "forked":
      text = t(data.reason ? "t_forked_why" : "t_forked", {name: stream.parent ? nameOf(stream.parent) : plain(data.parent), version: data.version, reason: plain(data.reason)});
      break;
    case "pinned": case "unpinned": text = t(`t_${row.type}`, {n: data.messages.length}); break;
    case "rolled_back": text = data.reason === "retry" ? t("t_retry") : data.rounds ? t("t_rolled", {n: data.rounds}) : t("t_removed", {n: data.messages}); break;
    case "truncated": text = t("t_truncated", {n: data.messages, limit: data.limit}); by = t("by_limit"); break;
    case "restored": text = t(data.cause === "undo" ? "t_undone" : data.cause === "redo" ? "t_redone" : "t_restored", {version: data.version}); break;
    case "request_started": text = t(data.limit ? "t_asked_limit" : "t_asked", {model: model(data.model), limit: data.limit}); break;
    case "request_stopped":
      text = data.kept ? t(data.reason === "recovered" ? "t_recovered" : "t_kept") : t("t_stopped");
      if (data.reason === "recovered") by = t("by_recovery");
      break;
    case "request_failed":
      text = t("t_failed", {error: [data.status, plain(data.error) + (data.message ? ":" : ""), plain(data.message)].filter(Boolean).join(" ")});
      by = t("by_server");
      break;
    case "configured": text = t("t_configured", {settings: [plain(data.model), data.limit ? t("limit", {n: data.limit}) : data.limit === 0 ? t("no_limit") : ""].filter(Boolean).join(", ")}); break;
    case "renamed": text = data.name ? t("t_renamed", {name: plain(data.name)}) : t("t_unnamed"); break;
    case "archived": text = t("t_archived"); break;
    case "unarchived": text = t("t_unarchived"); break;
    case "deleted": text = t("t_deleted"); break;
    case "redacted": text = [t("t_redacted", {version: data.version}), plain(data.reason)].filter(Boolean).join(": "); break;
    case "role_set": text = data.description ? t("t_role", {name: plain(data.name), text: plain(data.description)}) : t("t_role_gone", {name: plain(data.name)}); break;
    case "remark_added": text = t("t_remark", {name: plain(data.speaker), heard: plain((data.audiences || []).join("、")), text: plain(String(data.remark).slice(0, 200))}); break;
  }
  return {text, by, failed: kindOf(row) === "failed"};
}

/** Draw the caption: the current event in words, its changes, cause, time and raw data. */
function paintCaption(stream, version, {text, by, failed}) {
  const row = rowOf(stream, version), {added, removed, pins} = countChanges(row);
  const chip = (kind, count) => count ? el("span", `chip ${kind}`, `${{added: "+", removed: "−", pinned: "◆ "}[kind]}${count}`) : "";
  const details = drawFolded(t("raw"), () => {
    const {message} = texts.of(stream, version);
    const data = Object.assign(message ? {message} : {}, texts.data(stream, version));
    const event = {conversation: stream.id, version, type: row.type, time: row.time, data};
    if (version === stream.rows.length) event.hash = stream.head;
    return drawJson(event);
  });
  $("caption").replaceChildren(el("span", failed ? "tale kind-failed" : "tale", text), chip("added", added), chip("removed", removed), chip("pinned", pins),
    el("span", "by", by), drawTimeLink(stream, version, "when"), details);
}

// -- branches and events ---------------------------------------------------------------------------------------------

const laneX = (lane) => 12 + Math.min(lane, 10) * 13;
const toneOf = (lane) => `tone-${lane % 6}`;

const branchList = new RowList($("branches"), 44, (index) => {
  const stream = branchOrder[index], x = laneX(stream.lane), y = 22;
  const graph = svg("svg", {class: `graph ${toneOf(stream.lane)}`, width: x + 12, height: 44, "aria-hidden": "true"});
  for (const lane of stream.through) graph.append(svg("path", {class: toneOf(lane), d: `M${laneX(lane)} 0V44`}));
  if (stream.parent) {
    const up = laneX(stream.lane - 1);
    if (!stream.lastChild) graph.append(svg("path", {class: toneOf(stream.lane - 1), d: `M${up} 0V44`}));
    graph.append(svg("path", {d: `M${up} 0C${up} ${y} ${up} ${y} ${x} ${y}`}));
  }
  if (stream.children) graph.append(svg("path", {d: `M${x} ${y}V44`}));
  graph.append(svg("circle", {class: "dot", cx: x, cy: y, r: 4.5}));
  const from = stream.parent ? t("forked_at", {name: nameOf(stream.parent), version: stream.forked}) : "";
  const facts = [from, t("event_count", {n: stream.rows.length}), stream.archived ? t("archived") : ""].filter(Boolean).join(" · ");
  const button = el("button", `branch${stream.archived ? " archived" : ""}`, graph, el("span", "what", el("span", "name", nameOf(stream)), el("span", "sub", facts)));
  button.title = visible(stream.id);
  if (stream === state.branch) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => { go(stream, stream.size); closeMenu(); });
  return button;
});

const EVENT_HEIGHT = matchMedia("(pointer: coarse)").matches ? 40 : 30;

const eventList = new RowList($("events"), EVENT_HEIGHT, (index) => {
  const branch = state.branch, place = index + 1, {stream, version} = locate(branch, place);
  const row = rowOf(stream, version), {text, failed} = describe(stream, version), middle = EVENT_HEIGHT / 2;
  const graph = svg("svg", {class: `graph ${toneOf(stream.lane)}`, width: 34, height: EVENT_HEIGHT, "aria-hidden": "true"});
  const forks = (stream.forks.get(version) || []).filter((fork) => locate(branch, Math.min(place + 1, branch.size)).stream !== fork);
  const isFork = version === 1 && stream.parent;
  if (isFork) graph.append(svg("path", {class: toneOf(stream.parent.lane), d: `M12 0V${middle - 5}`}));
  graph.append(svg("path", {d: `M12 ${place === 1 ? middle : isFork ? middle - 5 : 0}V${place === branch.size ? middle : EVENT_HEIGHT}`}));
  if (forks.length) graph.append(svg("path", {class: toneOf(forks[0].lane), d: `M12 ${middle}C22 ${middle} 26 ${middle + 4} 26 ${EVENT_HEIGHT}`}));
  graph.append(svg("circle", {class: "dot", cx: 12, cy: middle, r: row.change || row.pins ? 4 : 2.5}));
  const link = el("a", "event", graph, el("span", "number", String(version)), el("span", "what", el("span", failed ? "kind-failed" : "", text)));
  if (row.change || row.pins) link.classList.add("moves");
  if (stream !== branch) link.classList.add("inherited");
  if (forks.length) {
    const chip = el("span", "chip", svg("svg", {viewBox: "0 0 12 12", "aria-hidden": "true"}, svg("path", {d: "M3 1v10M3 7c4 0 6-1.5 6-6"})),
      el("span", "", forks.length === 1 ? nameOf(forks[0]) : numberFormat.format(forks.length)));
    chip.title = forks.slice(0, 20).map(nameOf).join(", ");
    chip.addEventListener("click", (event) => { event.preventDefault(); event.stopPropagation(); go(forks[0], forks[0].size); closeMenu(); });
    link.append(chip);
  }
  if (place === state.number) link.setAttribute("aria-current", "true");
  link.href = addressOf(stream, version);
  link.title = `${formatTime(row.time)} · ${text}`;
  onPlainClick(link, () => { go(branch, place); closeMenu(); });
  return link;
});

/** Call *act* on a click that does not ask for a new tab or window. */
function onPlainClick(link, act) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    act();
  });
}

let paintedEvent = 0; // the event that the list shows as current

function paintLists(isNew) {
  if (isNew) {
    branchList.show(branchOrder.length);
    branchList.reveal(state.branch.row);
    $("event-count").textContent = numberFormat.format(state.branch.size);
    eventList.show(state.branch.size);
  } else if (paintedEvent !== state.number) {
    eventList.drop(paintedEvent - 1);
    eventList.drop(state.number - 1);
  }
  paintedEvent = state.number;
  eventList.reveal(state.number - 1);
}

// -- the chat, and two branches side by side -------------------------------------------------------------------------

const view = new View();      // of the branch that is shown
const otherView = new View(); // of the branch beside it

const chatList = new ItemList($("chat"), (item) => {
  if (item.pair) return drawPair(item);
  return item.id === undefined ? el("p", "empty", t("empty")) : drawMessage(item.branch, item);
}, (item) => {
  if (item.pair) return 220;
  const {stream, version} = item.id ? locate(item.branch, item.id) : {}, size = stream ? rowOf(stream, version).size || 0 : 200;
  return 58 + Math.ceil(Math.min(size, START) / Math.max(20, Math.min(chatWidth, 740) / 7.5)) * 26;
});
let chatWidth = 600;

function showItems(items) {
  chatWidth = $("chat").clientWidth;
  chatList.show(items.length ? items.map((item) => Object.assign(item, {branch: state.branch})) : [{key: "empty"}]);
}

function paintChat(isNew) {
  showItems(itemsAt(view, texts, state.branch, state.number));
  const changed = chatList.items.map((item) => item.changed), first = changed.indexOf(true), last = changed.lastIndexOf(true);
  if (first < 0) { if (isNew) chatList.reveal(changed.length - 1, "end"); return; }
  if (last - first < 4) chatList.reveal(last, "start");
  chatList.reveal(first, "start");
}

let comparedAddress = "";

function paintPairs(isNew) {
  const left = state.branch, {branch: right, number} = state.beside, select = $("other");
  $("left-name").textContent = `${nameOf(left)} ${$("subtitle").textContent}`;
  if (isNew || select.dataset.left !== String(left.place)) {
    select.dataset.left = String(left.place);
    select.replaceChildren(...streams.filter((stream) => stream !== left).slice(0, 1000).map((stream) => new Option(nameOf(stream), stream.place)));
  }
  select.value = String(right.place);
  const pairs = pairRounds(left, view.at(left, state.number).ids, right, otherView.at(right, number).ids);
  const keyOf = (round) => round ? `${round.question}.${round.answers}` : "";
  showItems(pairs.map((pair) => ({pair, right, key: `pair ${left.place} ${keyOf(pair[0])} ${right.place} ${keyOf(pair[1])}`})));
  if (isNew && address() !== comparedAddress) {
    const first = pairs.findIndex(([a, b]) => !a || !b || String(a.answers) !== String(b.answers));
    chatList.reveal(first < 0 ? chatList.items.length - 1 : first, "top");
  }
  comparedAddress = address();
}

function drawPair({pair: [a, b], branch: left, right}) {
  const same = a && b && a.answers.length === b.answers.length && a.answers.every((id, at) => isSameMessage(texts, left, id, right, b.answers[at]));
  const diff = a && b && !same ? compareAnswers(texts, left, a, right, b) : null;
  const body = el("div", "body plain"), {stream, version} = locate(a ? left : right, (a || b).question || 1);
  if (!(a || b).question) body.append(el("span", "note", t("before_questions")));
  else if (rowOf(stream, version).redacted) body.append(el("span", "gone", t("redacted")));
  else appendParts(body, texts.message(stream, version), false);
  const [word, colour] = same ? ["same", ""] : a && b ? ["changed", " pinned"] : ["only_here", a ? " removed" : " added"];
  const sides = [[left, a], [right, b]].map(([branch, round], side) => el("div", round ? "side" : "side none", ...(round ? round.answers : []).map((id, at) => {
    const message = drawMessage(branch, {id, marks: []});
    if (diff && at === round.answers.length - 1) message.querySelector(".body").replaceChildren(drawDiff(diff, side));
    return message;
  })));
  return el("section", `pair${same ? " same" : ""}`, el("div", "question", body, el("span", `chip${colour}`, t(word))), ...sides);
}

/** Draw the words of one side; those that the other side lacks are marked. */
function drawDiff({words, both}, side) {
  const box = el("div", "plain");
  let run = "", inBoth = true;
  const endRun = () => {
    const target = inBoth ? box : el(side ? "ins" : "del", "word");
    appendText(target, run);
    if (!inBoth) box.append(target);
    run = "";
  };
  words[side].forEach((word, at) => {
    if (both[side].has(at) !== inBoth) { endRun(); inBoth = !inBoth; }
    run += word;
  });
  endRun();
  return box;
}

// -- the timeline ----------------------------------------------------------------------------------------------------

// In the order of importance: if marks overlap, the last of these is drawn. [kind, colour, height]
const MARKS = [["quiet", "--line", .2], ["message", "--quiet", .35], ["question", "--quiet", .35], ["answer", "--accent", .55], ["fork", "--ink", 1],
  ["pinned", "--pinned", .7], ["restored", "--lane-2", .7], ["removed", "--removed", .8], ["failed", "--failed", .8]];
const IMPORTANCE = new Map(MARKS.map(([kind], index) => [kind, index]));
const EDGE = 4; // pixels at both ends, so that the first mark and the last one are whole

/** Draw a mark for each event of the branch on the track of the slider. */
function paintMarks() {
  const canvas = $("marks"), box = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
  if (!box.width || !state.branch) return;
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement), {size, base, parent} = state.branch;
  const middle = box.height / 2, xOf = (place) => EDGE + (size === 1 ? .5 : (place - 1) / (size - 1)) * (box.width - 2 * EDGE);
  const fill = (colour, alpha, x, y, width, height, radius) => {
    pen.fillStyle = style.getPropertyValue(colour);
    pen.globalAlpha = alpha;
    pen.beginPath();
    pen.roundRect(x, y, width, height, radius);
    pen.fill();
  };
  pen.scale(scale, scale);
  fill("--line", 1, EDGE, middle - 1, box.width - 2 * EDGE, 2, 0);
  if (parent) fill(`--lane-${parent.lane % 6}`, .35, EDGE, middle - 1, xOf(Math.min(base + .5, size)) - EDGE, 2, 0);
  const width = clamp(box.width / size * .45, 1.5, 5), bins = new Map();
  for (let stream = state.branch, place = size; place >= 1; place--) {
    while (place <= stream.base) stream = stream.parent;
    const x = xOf(place), bin = Math.round(x / (width + .5)), importance = IMPORTANCE.get(kindOf(rowOf(stream, place - stream.base)));
    if (!bins.has(bin) || importance > bins.get(bin).importance) bins.set(bin, {importance, x, alpha: stream === state.branch ? 1 : .5});
  }
  for (const {importance, x, alpha} of bins.values()) {
    const [, colour, part] = MARKS[importance], height = (box.height - 8) * part;
    fill(colour, alpha, x - width / 2, middle - height / 2, width, height, width / 2);
  }
}
