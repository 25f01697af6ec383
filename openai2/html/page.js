"use strict";
(() => {
// The page's one program. Parts, in order: words, the data and its views, text, the windowed list, branches,
// events, chat, two branches, the time line, search, and what holds them together (state, address, keys).
// A view is never folded here: the rows say what each event changed, and that is applied, forwards or backwards.

// -- words: all that the page says itself, in English and in Chinese; "one|many" by {n} --------------------

const WORDS = {
  branches: ["Branches", "分支"], events: ["Events", "事件"], find: ["Search", "搜索"], close: ["Close", "关闭"],
  compare: ["Two branches side by side", "并排比较两个分支"], theme: ["Light or dark", "浅色或深色"],
  help: ["Help", "帮助"], menu: ["Branches and events", "分支与事件"], keys: ["Keys", "按键"], with: ["beside", "对比"],
  first: ["First event", "最初"], back: ["Event before", "上一事件"], on: ["Next event", "下一事件"], last: ["Last event", "最后"],
  timeline: ["Time line", "时间线"], counter: ["{n} of {all}", "第 {n} / {all} 个"], link: ["Link to this event", "此事件的链接"],
  theme_auto: ["Colours as the system has them", "颜色跟随系统"], theme_light: ["Light colours", "浅色"], theme_dark: ["Dark colours", "深色"],
  event_count: ["{n} event|{n} events", "{n} 个事件"],
  forked_at: ["from {name} @{version}", "来自 {name} @{version}"], archived: ["archived", "已归档"],
  user: ["User", "用户"], assistant: ["Assistant", "助手"], system: ["System", "系统"], developer: ["Developer", "开发者"],
  tool: ["Tool", "工具"], function: ["Function", "函数"],
  added: ["added", "新增"], removed: ["removed", "移出"], pinned: ["pinned", "已固定"], now_pinned: ["just pinned", "刚固定"],
  now_unpinned: ["just unpinned", "刚取消固定"], stopped: ["stopped early", "提前停止"], waiting: ["asked, not answered yet", "已提问，待回答"],
  unanswered: ["not answered", "未获回答"], came: ["what had come", "已收到的部分"], remark: ["said, not yet told to the model", "已说，尚未转告模型"],
  redacted: ["removed from the file for good", "内容已从文件中永久删除"], redacted_why: ["removed for good: {reason}", "已永久删除：{reason}"],
  tokens: ["{asked} + {came} tokens", "{asked} + {came} 个 token"], seconds: ["{n} s", "{n} 秒"], key: ["key {key}", "密钥 {key}"],
  tries: ["after {n} failed try|after {n} failed tries", "此前失败 {n} 次"], thinking: ["What the model thought", "模型的思考"],
  choice: ["Another answer ({n})", "另一回答（{n}）"], more_fields: ["Further fields", "其他字段"],
  show_all: ["Show all ({size})", "显示全部（{size}）"],
  image: ["Picture elsewhere, not loaded: {url}", "外部图片，未加载：{url}"], part: ["[{type}]", "[{type}]"], no_picture: ["a picture that cannot be shown", "无法显示的图片"],
  empty: ["No message stands in the view here.", "此处视图中没有消息。"], nothing: ["There is no conversation on this page.", "此页没有对话。"],
  raw: ["details", "详情"], nowhere: ["There is no event {place} on this page.", "此页没有事件 {place}。"],
  searching: ["{percent} % searched …", "已搜索 {percent} % …"], found: ["{n} place found|{n} places found", "找到 {n} 处"],
  found_most: ["The first {n} places", "前 {n} 处"], not_found: ["Nothing found", "没有找到"],
  same: ["same", "相同"], changed: ["changed", "不同"], only_here: ["only here", "仅此分支"],
  alone: ["There is no other branch to compare with.", "没有可比较的其他分支。"], before_questions: ["Before the first question", "首个问题之前"],
  by_caller: ["by the caller", "由使用者"], by_model: ["answered by {model}", "由 {model} 回答"], by_limit: ["by the limit", "由条数上限"], by_server: ["by the server", "由服务器"], by_recovery: ["recovered after a crash", "崩溃后恢复"],
  t_created: ["The conversation began", "对话开始"], t_created_named: ["Began, named {name}", "对话开始，名为 {name}"],
  t_forked: ["Forked from {name} @{version}", "自 {name} @{version} 分出"], t_forked_why: ["Forked from {name} @{version} ({reason})", "自 {name} @{version} 分出（{reason}）"],
  t_pinned: ["Pinned {n} message|Pinned {n} messages", "固定了 {n} 条消息"], t_unpinned: ["Unpinned {n} message|Unpinned {n} messages", "取消固定 {n} 条消息"],
  t_rolled: ["Rolled back {n} round|Rolled back {n} rounds", "回退了 {n} 轮"], t_taken: ["Took {n} message out|Took {n} messages out", "移出 {n} 条消息"],
  t_retry: ["The old answer made way for a new one", "旧回答让位给新回答"],
  t_truncated: ["The limit of {limit} took {n} message out|The limit of {limit} took {n} messages out", "上限 {limit} 条，移出 {n} 条消息"],
  t_restored: ["Restored version {version}", "恢复到版本 {version}"], t_undone: ["Undone: back to version {version}", "撤销：回到版本 {version}"], t_redone: ["Redone: forward to version {version}", "重做：前往版本 {version}"],
  t_asked: ["Asked {model}", "询问 {model}"], t_asked_limit: ["Asked {model}, with {limit} messages at most", "询问 {model}，至多 {limit} 条消息"], the_model: ["the model", "模型"],
  t_stopped: ["Stopped before anything came", "在收到内容前停止"], t_kept: ["Stopped; what had come was kept", "已停止，保留已收到的部分"], t_recovered: ["The cut answer was kept", "保留了中断的回答"],
  t_failed: ["Failed: {error}", "失败：{error}"], t_configured: ["Set for this conversation: {settings}", "对话设置：{settings}"], limit: ["limit {n}", "上限 {n}"],
  t_renamed: ["Named {name}", "命名为 {name}"], t_unnamed: ["Its name was taken away", "取消了名称"], t_archived: ["Archived", "已归档"], t_unarchived: ["Taken out of the archive", "取消归档"],
  t_deleted: ["All content was removed for good", "全部内容已永久删除"],
  t_redacted: ["The content of version {version} was removed for good", "版本 {version} 的内容已永久删除"],
  t_role: ["Role {name}: {text}", "角色 {name}：{text}"], t_role_gone: ["Role {name} was taken away", "角色 {name} 已移除"], t_remark: ["{name} to {heard}: {text}", "{name} 对 {heard}：{text}"],
  k_arrows: ["event before, next event (with Shift: ten)", "上一、下一事件（加 Shift：十个）"], k_ends: ["first, last event", "最初、最后事件"], k_find: ["search all messages", "搜索全部消息"],
  k_branches: ["branch before, next branch", "上一、下一分支"], k_compare: ["two branches side by side", "并排比较两个分支"], k_theme: ["light, dark, as the system", "浅色、深色、跟随系统"], k_help: ["this help", "本帮助"], k_close: ["close", "关闭"],
  about: ["Every address names an event: copy it to come back here. Printing prints the whole view.", "每个地址都指向一个事件，可复制以便返回。打印会打印整个视图。"],
};
const CHINESE = /^zh\b/i.test(navigator.language || "");

const whole = new Intl.NumberFormat();

function say(word, values) {
  let text = (WORDS[word] || [word, word])[CHINESE ? 1 : 0];
  if (text.includes("|")) text = text.split("|")[values && values.n === 1 ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (all, name) => {
    if (!values || !(name in values)) return all;
    return name === "n" && typeof values.n === "number" ? whole.format(values.n) : String(values[name]);
  });
}

// -- small tools ----------------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

function make(tag, classes, ...content) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...content.filter((one) => one !== null && one !== undefined && one !== ""));
  return element;
}

function drawing(tag, attributes, ...content) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  element.append(...content);
  return element;
}

function bytes(size) {
  if (size < 1024) return `${size} B`;
  return size < 1048576 ? `${(size / 1024).toFixed(0)} kB` : `${(size / 1048576).toFixed(1)} MB`;
}

const dayOf = new Intl.DateTimeFormat(CHINESE ? "zh" : undefined, {year: "numeric", month: "short", day: "numeric"});
const timeOf = new Intl.DateTimeFormat(CHINESE ? "zh" : undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});

function when(time) {
  const date = new Date(time);
  return isNaN(date) ? shown(time) : `${dayOf.format(date)} ${timeOf.format(date)}`;
}

// -- the data -------------------------------------------------------------------------------------------------

const blocks = (kind) => Array.from(document.querySelectorAll(`script.${kind}`));
const about = JSON.parse(blocks("about")[0].textContent);
const streams = about.streams;
const textBlocks = blocks("texts");
for (const stream of streams) Object.assign(stream, {rows: [], frames: [], forks: new Map(), redactions: null});
for (const block of blocks("rows")) {
  const {stream, rows} = JSON.parse(block.textContent);
  for (const row of rows) streams[stream].rows.push(row);
  block.remove();
}
streams.forEach((stream, place) => {
  stream.place = place;
  stream.size = stream.base + stream.rows.length;
  stream.rows.forEach((row, index) => { if (row.frame) stream.frames.push(index + 1); });
  if (stream.parent === null) return;
  const forks = streams[stream.parent].forks;
  if (!forks.has(stream.forked)) forks.set(stream.forked, []);
  forks.get(stream.forked).push(stream);
});

const rowOf = (stream, version) => stream.rows[version - 1];

/** Which stream holds the event with this number, seen from *stream*, and as which version. */
function locate(stream, number) {
  while (number <= stream.base) stream = streams[stream.parent];
  return {stream, version: number - stream.base};
}

const called = (stream) => shown(stream.name || stream.id);

/** The redaction that took an event's content. */
function redaction(stream, version) {
  if (!stream.redactions) {
    stream.redactions = new Map();
    stream.rows.forEach((row) => {
      if (row.type === "redacted" && row.data) stream.redactions.set(row.data.version, row);
    });
  }
  return stream.redactions.get(version);
}

const readBlocks = new Map(); // the blocks of texts that were read last

function readBlock(index) {
  let texts = readBlocks.get(index);
  if (texts) {
    readBlocks.delete(index);
  } else {
    texts = new Map(JSON.parse(textBlocks[index].textContent).map(([place, version, text]) => [`${place} ${version}`, text]));
    if (readBlocks.size > 40) readBlocks.delete(readBlocks.keys().next().value);
  }
  readBlocks.set(index, texts);
  return texts;
}

/** What was too long for an event's row: its message, the answer's alternatives, … */
function textOf(stream, version) {
  let low = 0, high = about.texts.length;
  while (low < high) {
    const middle = (low + high) >> 1, [place, first] = about.texts[middle];
    if (place < stream.place || (place === stream.place && first <= version)) low = middle + 1; else high = middle;
  }
  return (low && readBlock(low - 1).get(`${stream.place} ${version}`)) || {};
}

const dataOf = (stream, version) => rowOf(stream, version).data || textOf(stream, version).data || {};

// -- views: ids and pins at an event, reached by applying changes ---------------------------------------------

class Views {
  constructor() { this.stream = null; this.number = 0; this.ids = []; this.pins = new Set(); }

  /** The view of *stream* after the event *number*; it is the caller's to read, not to keep. */
  at(stream, number) {
    // What is held can be gone on with where its last event is one of this branch, too.
    const same = this.number > 0 && this.number <= stream.size && locate(stream, this.number).stream === locate(this.stream, this.number).stream;
    if (!same || Math.abs(number - this.number) > 400) this.jump(stream, number);
    this.stream = stream;
    while (this.number < number) this.step(++this.number, 1);
    while (this.number > number) this.step(this.number--, -1);
    return this;
  }

  /** Begin at the last whole view at or before *number*. */
  jump(stream, number) {
    this.ids = [];
    this.pins = new Set();
    this.number = 0;
    for (let here = stream; here; here = here.parent === null ? null : streams[here.parent]) {
      let version = 0;
      for (const one of here.frames) { if (here.base + one <= number) version = one; else break; }
      if (!version) continue;
      const frame = rowOf(here, version).frame;
      this.ids = frame.ids.slice();
      this.pins = new Set(frame.pins);
      this.number = here.base + version;
      return;
    }
  }

  step(number, way) {
    const {stream, version} = locate(this.stream, number);
    const row = rowOf(stream, version);
    const change = row.change || [];
    for (let one = 0; one < change.length; one++) {
      const [place, left, came] = change[way > 0 ? one : change.length - 1 - one];
      const out = way > 0 ? left : came, into = way > 0 ? came : left;
      if (place === this.ids.length) for (const id of into) this.ids.push(id);
      else if (place + out.length === this.ids.length && !into.length) this.ids.length = place;
      else this.ids = this.ids.slice(0, place).concat(into, this.ids.slice(place + out.length));
    }
    if (!row.pins) return;
    const [came, left] = way > 0 ? row.pins : [row.pins[1], row.pins[0]];
    left.forEach((id) => this.pins.delete(id));
    came.forEach((id) => this.pins.add(id));
  }
}

const views = new Views();      // for the view that is shown
const otherViews = new Views(); // for the branch beside it, and for looking around

// -- text: everything is set as text; nothing is ever parsed as markup ----------------------------------------

// Control characters, and those that are not seen but change what is: told by their numbers.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g;
const hasUnseen = new RegExp(UNSEEN.source);

const named = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A short text, for where there are no elements. */
function shown(text) {
  return String(text).replace(/\r\n?|\n/g, " ").replace(UNSEEN, (one) => `⟨${named(one)}⟩`);
}

/** Append text to an element, what is unseen made visible. */
function write(element, text) {
  text = text.replace(/\r\n/g, "\n");
  if (!hasUnseen.test(text)) { element.append(text); return; }
  let start = 0;
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > start) element.append(text.slice(start, match.index));
    element.append(make("span", "ctl", named(match[0])));
    start = match.index + match[0].length;
  }
  if (start < text.length) element.append(text.slice(start));
}

const MARKS = /`+|\*\*|\*|__|_|~~|\[|https?:\/\//g;
const REACH = 3000; // characters within which a mark must be closed

/** Markdown within a paragraph: code, strong, emphasis, struck, links. */
function inline(element, text, depth = 0) {
  let start = 0;
  const marks = new RegExp(MARKS.source, "g");
  for (let match = marks.exec(text); match; match = marks.exec(text)) {
    const at = match.index, mark = match[0];
    const found = depth < 6 && taken(text, at, mark);
    if (!found) continue;
    if (at > start) write(element, text.slice(start, at));
    element.append(found.element);
    if (found.inner !== undefined) inline(found.element, found.inner, depth + 1);
    start = marks.lastIndex = found.end;
  }
  if (start < text.length) write(element, text.slice(start));
}

const wordBefore = (text, at) => at > 0 && /[\p{L}\p{N}]/u.test(text[at - 1]);
const wordAt = (text, at) => at < text.length && /[\p{L}\p{N}]/u.test(text[at]);

function taken(text, at, mark) {
  const near = text.slice(at, at + REACH);
  if (mark[0] === "`") {
    const end = near.indexOf(mark, mark.length);
    if (end < 0 || near[end + mark.length] === "`") return null;
    const code = make("code");
    write(code, near.slice(mark.length, end).replace(/^ (.*\S.*) $/s, "$1"));
    return {element: code, end: at + end + mark.length};
  }
  if (mark[0] === "h") {
    const url = /^https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+/.exec(near)[0].replace(/[.,;:!?)\]}*_~]+$/, "");
    const link = url.length > 8 && linked(url);
    if (!link) return null;
    write(link, url);
    return {element: link, end: at + url.length};
  }
  if (mark === "[") {
    const found = /^\[([^\[\]\n]{1,400})\]\(\s*(\S{1,2000}?)(?:\s+"[^"\n]*")?\s*\)/.exec(near);
    const link = found && linked(found[2]);
    return link ? {element: link, inner: found[1], end: at + found[0].length} : null;
  }
  const after = near[mark.length];
  if (after === undefined || /\s/.test(after) || (mark[0] === "_" && wordBefore(text, at))) return null;
  if (mark === "*" && /\d/.test(text[at - 1] || "")) return null; // 2*3*4
  for (let end = near.indexOf(mark, mark.length + 1); end > 0; end = near.indexOf(mark, end + mark.length)) {
    if (/\s/.test(near[end - 1])) continue;
    if (mark === "*" && (near[end + 1] === "*" || near[end - 1] === "*")) { end++; continue; }
    if (mark[0] === "_" && wordAt(near, end + mark.length)) continue;
    const tag = mark === "~~" ? "s" : mark.length === 2 ? "strong" : "em";
    return {element: make(tag), inner: near.slice(mark.length, end), end: at + end + mark.length};
  }
  return null;
}

/** A link, to http and https only. */
function linked(url) {
  let target;
  try { target = new URL(url); } catch (_) { return null; }
  if (target.protocol !== "http:" && target.protocol !== "https:") return null;
  const link = make("a");
  link.href = target.href;
  link.title = target.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}

const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^\s*([-*_])(?:\s*\1){2,}\s*$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** Markdown, a line at a time: fences, headings, lists, quotes, tables, rules, paragraphs. */
function markdown(element, text, depth = 0) {
  const lines = text.replace(/\r\n/g, "\n").split("\n");
  let paragraph = [];
  const end = () => {
    if (paragraph.length) {
      const p = make("p");
      paragraph.forEach((line, index) => { if (index) p.append(make("br")); inline(p, line); });
      element.append(p);
    }
    paragraph = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at];
    let match;
    if ((match = /^(\s*)(`{3,}|~{3,})/.exec(line))) {
      end();
      const fence = match[2], code = make("code"), inside = [];
      while (++at < lines.length && !(lines[at].trim().startsWith(fence) && !lines[at].trim().slice(fence.length).replace(/[`~]/g, ""))) inside.push(lines[at]);
      write(code, inside.join("\n"));
      element.append(make("pre", "", code));
    } else if (!line.trim()) {
      end();
    } else if ((match = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line))) {
      end();
      const heading = make(match[1].length < 3 ? "h3" : "h4");
      inline(heading, match[2]);
      element.append(heading);
    } else if (RULE.test(line)) {
      end();
      element.append(make("hr"));
    } else if (depth < 4 && /^\s*>/.test(line)) {
      end();
      const quoted = [];
      for (; at < lines.length && /^\s*>/.test(lines[at]); at++) quoted.push(lines[at].replace(/^\s*> ?/, ""));
      at--;
      const quote = make("blockquote");
      markdown(quote, quoted.join("\n"), depth + 1);
      element.append(quote);
    } else if (ITEM.test(line) && !(paragraph.length && /^\s*\d/.test(line) && !/^\s*1[.)]/.test(line))) {
      end();
      const items = [];
      for (; at < lines.length; at++) {
        if ((match = ITEM.exec(lines[at]))) items.push({indent: match[1].length, ordered: /\d/.test(match[2]), start: parseInt(match[2], 10), text: match[3]});
        else if (lines[at].trim() && /^\s/.test(lines[at]) && items.length && !/^\s*(`{3,}|~{3,})/.test(lines[at])) items[items.length - 1].text += " " + lines[at].trim();
        else break;
      }
      at--;
      element.append(...lists(items));
    } else if (line.includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && DIVIDER.test(lines[at + 1].slice(0, 500))) {
      end();
      const table = make("table");
      const head = at;
      for (; at < lines.length && lines[at].includes("|"); at++) {
        if (at === head + 1) continue; // the line between
        const cells = make("tr");
        for (const cell of lines[at].trim().replace(/^\||\|$/g, "").split("|").slice(0, 50)) {
          const one = make(at === head ? "th" : "td");
          inline(one, cell.trim());
          cells.append(one);
        }
        table.append(cells);
      }
      at--;
      element.append(table);
    } else {
      paragraph.push(line);
    }
  }
  end();
}

/** The items of a list as lists within lists. */
function lists(items) {
  const top = [], open = [];
  for (const item of items) {
    while (open.length && item.indent < open[open.length - 1].indent) open.pop();
    let last = open[open.length - 1];
    if (!last || (item.indent > last.indent + 1 && open.length < 6) || (item.ordered !== last.ordered && item.indent >= last.indent)) {
      const list = make(item.ordered ? "ol" : "ul");
      if (item.ordered && item.start !== 1) list.start = item.start;
      if (last && item.indent > last.indent + 1) {
        last.list.lastChild.append(list);
      } else {
        open.pop();
        if (open.length) open[open.length - 1].list.lastChild.append(list); else top.push(list);
      }
      last = {indent: item.indent, ordered: item.ordered, list};
      open.push(last);
    }
    const element = make("li");
    inline(element, item.text);
    last.list.append(element);
  }
  return top;
}

// -- messages -------------------------------------------------------------------------------------------------

const LONG = 20000;     // characters of a text that are shown at once
const START = 6000;     // and, of one that is longer, its beginning
const STYLED = 200000;  // characters of a text that is set as Markdown
const PIECE = 20000;    // and of each piece of one that is not
const expanded = new Set();

/** A text of a message; long ones shortened, with a button. */
function prose(text, key, rich, all) {
  const box = make("div");
  const whole_ = all || text.length <= LONG || expanded.has(key);
  const part = whole_ ? text : text.slice(0, START);
  if (rich && part.length <= STYLED) {
    markdown(box, part);
  } else {
    box.className = "plain";
    if (part.length <= LONG) write(box, part);
    else for (let at = 0; at < part.length;) {
      let end = at + PIECE;
      const line = part.lastIndexOf("\n", end);
      const inLine = line > at;
      if (inLine) end = line;
      if (/[\ud800-\udbff]/.test(part[end - 1] || "")) end++;
      const piece = make("div", "block");
      write(piece, part.slice(at, end));
      box.append(piece);
      at = inLine ? end + 1 : end;
    }
  }
  if (!whole_) {
    const button = make("button", "show-all", say("show_all", {size: bytes(new Blob([text]).size)}));
    button.addEventListener("click", () => { expanded.add(key); box.replaceWith(prose(text, key, rich, false)); });
    box.append(make("span", "note", "… "), button);
  }
  return box;
}

const PICTURE = /^data:image\/(png|jpe?g|gif|webp|avif|bmp);base64,/i;

function parts(body, message, key, rich, all) {
  const content = message.content;
  const list = typeof content === "string" ? [content] : Array.isArray(content) ? content : content ? [content] : [];
  list.forEach((part, index) => {
    const name = `${key}.${index}`;
    if (typeof part === "string") body.append(prose(part, name, rich, all));
    else if (part && typeof part.text === "string") body.append(prose(part.text, name, rich, all));
    else if (part && typeof part.refusal === "string") body.append(prose(part.refusal, name, rich, all));
    else if (part && part.image_url) body.append(picture(part.image_url.url || part.image_url));
    else body.append(other(part));
  });
  if (typeof message.refusal === "string" && message.refusal) body.append(prose(message.refusal, `${key}.refusal`, rich, all));
  const calls = (Array.isArray(message.tool_calls) ? message.tool_calls : []).concat(message.function_call ? [{function: message.function_call}] : []);
  for (const call of calls) body.append(callOf(call));
  const known = new Set(["role", "content", "refusal", "tool_calls", "function_call", "name", "tool_call_id"]);
  const rest = Object.keys(message).filter((field) => !known.has(field));
  if (rest.length) body.append(folded(say("more_fields"), () => json(Object.fromEntries(rest.map((field) => [field, message[field]])))));
}

function picture(url) {
  url = String(url);
  if (!PICTURE.test(url)) return make("p", "note", say("image", {url: shown(url.slice(0, 300))}));
  const image = make("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.addEventListener("error", () => image.replaceWith(make("p", "note", say("no_picture"))));
  image.src = url;
  return image;
}

function other(part) {
  const type = part && typeof part === "object" ? part.type || "part" : typeof part;
  return folded(say("part", {type: shown(type)}), () => json(part));
}

function callOf(call) {
  const named_ = (call && call.function) || call || {};
  const box = make("div", "call"), name = make("b"), pre = make("pre");
  write(name, shown(named_.name || (call && call.type) || "?"));
  let text = named_.arguments;
  if (text === undefined) text = named_.input === undefined ? JSON.stringify(named_, null, 2) : named_.input;
  if (typeof text === "string" && text.length < LONG) {
    try { text = JSON.stringify(JSON.parse(text), null, 2); } catch (_) { /* shown as it came */ }
  }
  text = typeof text === "string" ? text : JSON.stringify(text, null, 2);
  pre.append(prose(text, "call " + (call && call.id), false, false));
  box.append(name, pre);
  return box;
}

function folded(title, fill) {
  const details = make("details", "", make("summary", "", make("span", "", title)));
  details.addEventListener("toggle", () => { if (details.childNodes.length === 1) details.append(fill()); });
  return details;
}

function json(value) {
  const pre = make("pre", "plain");
  const text = JSON.stringify(value, null, 2);
  write(pre, text.length > STYLED ? text.slice(0, STYLED) + " …" : text);
  return pre;
}

/** What a message says, on one line. */
function gist(message, most = 120) {
  const content = message.content;
  const list = Array.isArray(content) ? content : [content];
  let text = "";
  for (const part of list) {
    if (text.length > most) break;
    if (typeof part === "string") text += part.slice(0, most * 2);
    else if (part) text += typeof part.text === "string" ? part.text.slice(0, most * 2) : ` [${part.type || "part"}] `;
  }
  if (!text && typeof message.refusal === "string") text = message.refusal;
  for (const call of Array.isArray(message.tool_calls) ? message.tool_calls : []) {
    text += ` ${(call.function && call.function.name) || call.type}(${String((call.function && call.function.arguments) || "").slice(0, most)})`;
  }
  text = shown(text.trim());
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

const ROLES = new Set(["user", "assistant", "system", "developer", "tool", "function"]);
const roleOf = (message) => ROLES.has(message.role) ? say(message.role) : shown(message.role || "?");
const classOf = (role) => role === "user" ? "user" : role === "assistant" ? "assistant" : role === "tool" || role === "function" ? "tool" : "system";

/** A message as it stands in the chat. *item*: {id, marks: [[class, word]], pinned, message?}. */
function drawMessage(stream, item, all) {
  const place = item.id ? locate(stream, item.id) : null;
  const row = place ? rowOf(place.stream, place.version) : {};
  const text = place ? textOf(place.stream, place.version) : {};
  const message = item.message || text.message || {};
  const answer = (row.data && row.data.answer) || {};
  const box = make("article", `message ${classOf(message.role)}`);
  const who = make("div", "who", make("span", "", [roleOf(message), message.name ? shown(message.name) : ""].filter(Boolean).join(" · ")));
  if (item.pinned) {
    who.append(drawing("svg", {viewBox: "0 0 20 20", role: "img", "aria-label": say("pinned")}, drawing("path", {d: "m8 3 9 9-2 .6-3 3-.6 3-8-8 3-.6 3-3zM7.5 12.5 3 17"})));
    who.lastChild.append(drawing("title", {}, say("pinned")));
  }
  if (answer.stopped) who.append(make("span", "badge stopped", say("stopped")));
  for (const [kind, word] of item.marks || []) {
    who.append(make("span", `badge ${kind}`, word));
    if (["added", "removed", "pinned", "failed", "waiting"].includes(kind)) box.classList.add(`is-${kind}`);
  }
  if (place) who.append(timeLink(place, "more-meta time"));
  const body = make("div", "body");
  if (row.redacted) {
    const reason = (redaction(place.stream, place.version) || {data: {}}).data.reason;
    body.append(make("span", "gone", reason ? say("redacted_why", {reason: shown(reason)}) : say("redacted")));
    if (message.tool_calls) parts(body, {tool_calls: message.tool_calls}, `gone ${item.id}`, false, all);
  } else {
    if (text.reasoning) body.append(folded(say("thinking"), () => prose(text.reasoning, `${item.id} thought`, true, all)));
    parts(body, message, `${place ? place.stream.place : ""} ${item.id} ${item.key}`, message.role === "assistant", all);
    (text.choices || []).forEach((choice, index) => body.append(folded(say("choice", {n: index + 2}), () => {
      const inner = make("div");
      parts(inner, choice.message || choice, `${item.id} choice ${index}`, true, all);
      return inner;
    })));
  }
  box.append(who, body);
  box.append(metaOf(answer));
  return box;
}

/** What is on record about an answer. */
function metaOf(answer) {
  const meta = make("div", "meta");
  const fact = (text, more) => { if (text) meta.append(make("span", more ? `more-meta ${more}` : "", text)); };
  fact(answer.model && shown(answer.model));
  if (answer.usage && answer.usage.prompt_tokens !== undefined) {
    fact(say("tokens", {asked: whole.format(answer.usage.prompt_tokens), came: whole.format(answer.usage.completion_tokens || 0)}));
  }
  if (answer.seconds !== undefined) fact(say("seconds", {n: answer.seconds.toFixed(2)}));
  if (answer.finish_reason && answer.finish_reason !== "stop") fact(shown(answer.finish_reason));
  if (answer.attempts && answer.attempts.length) fact(say("tries", {n: answer.attempts.length}));
  if (answer.key) fact(say("key", {key: shown(answer.key)}), "key");
  if (answer.id) fact(shown(answer.id), "rare");
  return meta.childNodes.length ? meta : "";
}

/** When an event happened, as a link to it. */
function timeLink({stream, version}, classes) {
  const link = make("a", classes, when(rowOf(stream, version).time));
  link.href = addressOf(stream, version);
  link.title = say("link");
  return link;
}

// -- a list of which only what is seen is drawn ---------------------------------------------------------------

class Windowed {
  /** *options*: key(index), draw(index, all), and height (fixed) or guess(index). */
  constructor(scroller, options) {
    this.scroller = scroller;
    this.options = options;
    this.sizer = make("div", "sizer");
    scroller.append(this.sizer);
    this.count = 0;
    this.tops = new Float64Array(1);
    this.heights = new Map();
    this.nodes = new Map();
    this.width = 0;
    this.printing = false;
    scroller.addEventListener("scroll", () => { if (!this.waiting) { this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.render(); }); } }, {passive: true});
    this.watch = new ResizeObserver((entries) => {
      if (this.printing) return;
      let changed = false;
      for (const {target} of entries) {
        if (target === scroller) {
          if (scroller.clientWidth !== this.width) { this.width = scroller.clientWidth; this.heights.clear(); }
          changed = true;
        } else if (target.isConnected) {
          const height = target.offsetHeight;
          if (height !== this.heights.get(target.dataset.key)) { this.heights.set(target.dataset.key, height); changed = true; }
        }
      }
      if (changed) this.lay();
    });
    this.watch.observe(scroller);
  }

  /** Show *count* items; those whose keys were there before stay where they are on the screen. */
  show(count) {
    const anchor = this.anchor();
    this.count = count;
    this.keys = [];
    for (let index = 0; index < count; index++) this.keys.push(String(this.options.key(index)));
    this.where = null;
    this.measure();
    this.sizer.style.height = `${this.tops[count]}px`;
    if (anchor) {
      const index = this.indexOf(anchor.key);
      if (index >= 0) this.scroller.scrollTop = this.tops[index] + anchor.inside;
    }
    this.render();
  }

  indexOf(key) {
    if (!this.where) this.where = new Map(this.keys.map((one, index) => [one, index]));
    const index = this.where.get(String(key));
    return index === undefined ? -1 : index;
  }

  measure() {
    const {height, guess} = this.options;
    if (this.tops.length !== this.count + 1) this.tops = new Float64Array(this.count + 1);
    let top = 0;
    for (let index = 0; index < this.count; index++) {
      this.tops[index] = top;
      top += height || this.heights.get(this.keys[index]) || guess(index, this.width || 600);
    }
    this.tops[this.count] = top;
  }

  at(y) {
    let low = 0, high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= y) low = middle + 1; else high = middle;
    }
    return Math.min(low, Math.max(0, this.count - 1));
  }

  anchor() {
    if (!this.count) return null;
    const top = this.scroller.scrollTop, index = this.at(top);
    return {key: this.keys[index], inside: top - this.tops[index]};
  }

  /** Heights have changed: keep what is at the top of the screen there. */
  lay() {
    const anchor = this.anchor();
    this.measure();
    this.sizer.style.height = `${this.tops[this.count]}px`;
    if (anchor) {
      const top = this.tops[this.indexOf(anchor.key)] + anchor.inside;
      if (Math.abs(top - this.scroller.scrollTop) > .5) this.scroller.scrollTop = top;
    }
    this.render();
  }

  render() {
    if (this.printing) return;
    for (let round = 0; round < 6; round++) {
      const top = this.scroller.scrollTop, room = this.scroller.clientHeight || 1;
      const first = this.count ? this.at(Math.max(0, top - room / 2)) : 0;
      const last = this.count ? this.at(top + room * 1.5) : -1;
      const wanted = new Map();
      for (let index = first; index <= last; index++) wanted.set(this.keys[index], index);
      for (const [key, node] of this.nodes) {
        if (wanted.has(key)) continue;
        this.watch.unobserve(node);
        node.remove();
        this.nodes.delete(key);
      }
      const fresh = [];
      for (const [key, index] of wanted) {
        let node = this.nodes.get(key);
        if (!node) {
          node = this.options.draw(index, false);
          node.dataset.key = key;
          this.nodes.set(key, node);
          this.sizer.append(node);
          fresh.push(node);
        }
        if (node.top !== this.tops[index]) {
          node.top = this.tops[index];
          node.style.transform = `translateY(${node.top}px)`;
        }
      }
      if (this.options.height || !fresh.length) return;
      let changed = false;
      for (const node of fresh) {
        const height = node.offsetHeight;
        this.watch.observe(node);
        if (this.heights.get(node.dataset.key) !== height) { this.heights.set(node.dataset.key, height); changed = true; }
      }
      if (!changed) return;
      const anchor = this.anchor();
      this.measure();
      this.sizer.style.height = `${this.tops[this.count]}px`;
      const moved = this.tops[this.indexOf(anchor.key)] + anchor.inside;
      if (Math.abs(moved - top) > .5) this.scroller.scrollTop = moved;
    }
  }

  /** Bring the item to the screen, if it is not there; *edge* "end": its end rather; "top": near the top, always. */
  reveal(index, edge) {
    for (let round = 0; round < 8; round++) {
      const top = this.scroller.scrollTop, room = this.scroller.clientHeight;
      const start = this.tops[index], end = this.tops[index + 1];
      let goal = top;
      if (edge === "top") goal = clamp(start - room / 5, 0, Math.max(0, this.tops[this.count] - room));
      else if (end - start > room) goal = edge === "end" ? end - room : start;
      else if (start < top) goal = start - Math.min(40, room / 8);
      else if (end > top + room) goal = end - room;
      if (Math.abs(goal - top) < 1) return;
      this.scroller.scrollTop = goal;
      this.render();
    }
  }

  /** Draw anew what is drawn. */
  refresh() {
    for (const node of this.nodes.values()) { this.watch.unobserve(node); node.remove(); }
    this.nodes.clear();
    this.heights.clear();
    this.lay();
  }

  /** All items at once, for paper. */
  unroll() {
    this.printing = true;
    this.sizer.replaceChildren();
    for (let index = 0; index < this.count; index++) this.sizer.append(this.options.draw(index, true));
  }

  rollUp() {
    this.printing = false;
    this.sizer.replaceChildren();
    for (const node of this.nodes.values()) this.watch.unobserve(node);
    this.nodes.clear();
    this.render();
  }
}

// -- what events tell -----------------------------------------------------------------------------------------

/** An event in words: {text, by, kind}. */
function tale(stream, version) {
  const row = rowOf(stream, version), data = dataOf(stream, version);
  const named_ = (value) => shown(value === null || value === undefined ? "" : value);
  let text = shown(row.type), by = say("by_caller"), kind = "other";
  switch (row.type) {
    case "message_added": {
      const message = textOf(stream, version).message || {};
      text = row.redacted ? `${roleOf(message)}: ${say("redacted")}` : `${roleOf(message)}: ${gist(message)}`;
      kind = data.answer ? "answer" : "message";
      if (data.answer) by = say("by_model", {model: named_(data.answer.model) || say("the_model")});
      break;
    }
    case "created": text = data.name ? say("t_created_named", {name: named_(data.name)}) : say("t_created"); break;
    case "forked": {
      const values = {name: stream.parent === null ? named_(data.parent) : called(streams[stream.parent]), version: data.version, reason: named_(data.reason)};
      text = say(data.reason ? "t_forked_why" : "t_forked", values);
      kind = "fork";
      break;
    }
    case "pinned": case "unpinned": text = say(`t_${row.type}`, {n: data.messages.length}); kind = "pinned"; break;
    case "rolled_back":
      text = data.reason === "retry" ? say("t_retry") : data.rounds ? say("t_rolled", {n: data.rounds}) : say("t_taken", {n: data.messages});
      kind = "removed";
      break;
    case "truncated": text = say("t_truncated", {n: data.messages, limit: data.limit}); by = say("by_limit"); kind = "removed"; break;
    case "restored": text = say(data.cause === "undo" ? "t_undone" : data.cause === "redo" ? "t_redone" : "t_restored", {version: data.version}); kind = "restored"; break;
    case "request_started": text = say(data.limit ? "t_asked_limit" : "t_asked", {model: named_(data.model) || say("the_model"), limit: data.limit}); break;
    case "request_stopped":
      text = data.kept ? say(data.reason === "recovered" ? "t_recovered" : "t_kept") : say("t_stopped");
      if (data.reason === "recovered") by = say("by_recovery");
      kind = "failed";
      break;
    case "request_failed": text = say("t_failed", {error: [data.status, named_(data.error) + (data.message ? ":" : ""), named_(data.message)].filter(Boolean).join(" ")}); by = say("by_server"); kind = "failed"; break;
    case "configured": text = say("t_configured", {settings: [named_(data.model), data.limit ? say("limit", {n: data.limit}) : ""].filter(Boolean).join(", ")}); break;
    case "renamed": text = data.name ? say("t_renamed", {name: named_(data.name)}) : say("t_unnamed"); break;
    case "archived": text = say("t_archived"); break;
    case "deleted": text = say("t_deleted"); kind = "failed"; break;
    case "unarchived": text = say("t_unarchived"); break;
    case "redacted": text = [say("t_redacted", {version: data.version}), named_(data.reason)].filter(Boolean).join(": "); kind = "failed"; break;
    case "role_set": text = data.description ? say("t_role", {name: named_(data.name), text: named_(data.description)}) : say("t_role_gone", {name: named_(data.name)}); break;
    case "remark_added": text = say("t_remark", {name: named_(data.speaker), heard: named_((data.audiences || []).join(", ")), text: named_(String(data.remark).slice(0, 200))}); kind = "message"; break;
  }
  return {text, by, kind};
}

/** Which sort of event, without reading its text: for marks and dots. */
function sortOf(row) {
  switch (row.type) {
    case "message_added": return row.kind === "u" ? "question" : row.change ? "answer" : "message";
    case "rolled_back": case "truncated": return "removed";
    case "pinned": case "unpinned": return "pinned";
    case "request_failed": case "request_stopped": case "redacted": case "deleted": return "failed";
    case "restored": return "restored";
    case "forked": case "created": return "fork";
    default: return "quiet";
  }
}

/** How many came, left, were pinned or unpinned. */
function sums(row) {
  let came = 0, left = 0;
  for (const [, out, into] of row.change || []) { left += out.length; came += into.length; }
  const left_ = new Set();
  for (const [, out] of row.change || []) out.forEach((id) => left_.add(id));
  const pins = row.pins ? row.pins[0].length + row.pins[1].filter((id) => !left_.has(id)).length : 0;
  return {came, left, pins};
}

function chips(row) {
  const {came, left, pins} = sums(row);
  return [
    came && make("span", "chip added", `+${came}`), left && make("span", "chip removed", `−${left}`), pins && make("span", "chip pinned", `◆ ${pins}`),
  ].filter(Boolean);
}

// -- state ----------------------------------------------------------------------------------------------------

const state = {branch: null, number: 0, beside: null}; // beside: null, or {branch, number}

const addressOf = (stream, version) => `#${encodeURIComponent(stream.id)}@${version}`;

function address() {
  const {stream, version} = locate(state.branch, state.number);
  let text = addressOf(stream, version);
  if (state.beside) {
    const other_ = locate(state.beside.branch, state.beside.number);
    text += `..${encodeURIComponent(other_.stream.id)}@${other_.version}`;
  }
  return text;
}

function placed(text) {
  const match = /^(.*?)(?:@(\d+))?$/s.exec(text);
  let name;
  try { name = decodeURIComponent(match[1]); } catch (_) { return null; }
  let found = streams.filter((stream) => stream.id === name || stream.name === name);
  if (!found.length && name) found = streams.filter((stream) => stream.id.startsWith(name));
  if (found.length !== 1) return null;
  const stream = found[0], version = match[2] === undefined ? stream.rows.length : Number(match[2]);
  return version >= 1 && version <= stream.rows.length ? {branch: stream, number: stream.base + version} : null;
}

/** Go where the address says; False where that is nowhere. */
function follow() {
  const hash = location.hash.slice(1);
  if (!hash) return false;
  const [one, two] = hash.split("..");
  const here = placed(one), there = two ? placed(two) : null;
  if (!here || (two && !there)) {
    let place = hash;
    try { place = decodeURIComponent(hash); } catch (_) { /* told as it is */ }
    notice(say("nowhere", {place: shown(place)}));
    return false;
  }
  // What was looked at on a fork, of what it inherited, is looked at on the fork again.
  const kept = history.state && history.state.branch !== undefined ? streams[history.state.branch] : null;
  if (kept && here.number <= kept.size && locate(kept, here.number).stream === here.branch) here.branch = kept;
  go(here.branch, here.number, {beside: there, settled: true});
  return true;
}

let settle = 0;

/** Show an event of a branch. */
function go(branch, number, {beside = state.beside, settled = false, top = false} = {}) {
  const moved = branch !== state.branch;
  state.branch = branch;
  state.number = clamp(number, 1, branch.size);
  state.beside = beside;
  if (moved) slider.max = String(branch.size);
  schedule(moved || top);
  clearTimeout(settle);
  if (!settled) settle = setTimeout(record, 250);
}

/** Put where we are into the address, once it has come to rest. */
function record() {
  clearTimeout(settle);
  settle = 0;
  const text = address();
  if (text === location.hash) return;
  try { history.pushState({branch: state.branch.place}, "", text); } catch (_) { location.hash = text; }
}

const step = (by) => go(state.branch, state.number + by);

function turn(by) {
  const at = branchOrder.indexOf(state.branch);
  const next = branchOrder[clamp(at + by, 0, branchOrder.length - 1)];
  if (next !== state.branch) go(next, next.size);
}

let frame = 0, fresh = false;

function schedule(moved) {
  fresh = fresh || moved;
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; const anew = fresh; fresh = false; paint(anew); });
}

function paint(moved) {
  const {stream, version} = locate(state.branch, state.number);
  const row = rowOf(stream, version);
  const title = called(state.branch);
  document.title = `${title} @${state.number - state.branch.base > 0 ? version : `${called(stream)}@${version}`}`;
  $("title").textContent = title;
  $("subtitle").textContent = `${stream === state.branch ? "" : called(stream)}@${version}`;
  slider.value = String(state.number);
  const told = tale(stream, version);
  slider.setAttribute("aria-valuetext", `${say("counter", {n: state.number, all: state.branch.size})}: ${told.text}`);
  $("counter").textContent = say("counter", {n: whole.format(state.number), all: whole.format(state.branch.size)});
  for (const id of ["first", "back"]) $(id).disabled = state.number <= 1;
  for (const id of ["on", "last"]) $(id).disabled = state.number >= state.branch.size;
  paintCaption(stream, version, row, told);
  paintBranches(moved);
  paintEvents(moved);
  if (moved) paintMarks();
  $("columns").hidden = !state.beside;
  $("compare").setAttribute("aria-pressed", String(Boolean(state.beside)));
  if (state.beside) paintPair(moved); else paintChat(moved);
  highlight();
}

function paintCaption(stream, version, row, told) {
  const link = timeLink({stream, version}, "when");
  const details = folded(say("raw"), () => {
    const text = textOf(stream, version);
    const shape = {conversation: stream.id, version, type: row.type, time: row.time, data: dataOf(stream, version)};
    if (text.message) shape.data = Object.assign({message: text.message}, shape.data);
    if (version === stream.rows.length) shape.hash = stream.head;
    return json(shape);
  });
  $("caption").replaceChildren(make("span", `tale kind-${told.kind}`, told.text), ...chips(row), make("span", "by", told.by), link, details);
}

// -- branches: a graph, a row a conversation ------------------------------------------------------------------

const branchOrder = []; // depth first, so that a fork stands beneath what it came from
{
  const visit = streams.filter((stream) => stream.parent === null).reverse();
  for (const stream of visit) Object.assign(stream, {lane: 0, through: []});
  while (visit.length) {
    const stream = visit.pop();
    stream.row = branchOrder.length;
    branchOrder.push(stream);
    // The latest place first, as the history is read upwards; each line goes down past those before it.
    const forks = Array.from(stream.forks.keys()).sort((a, b) => b - a).reduce((all, version) => all.concat(stream.forks.get(version)), []);
    stream.children = forks.length;
    forks.forEach((fork, index) => {
      fork.lane = stream.lane + 1;
      fork.lastChild = index === forks.length - 1;
      fork.through = stream.lane > 12 ? [] : stream.through.concat(stream.lane && !stream.lastChild ? [stream.lane - 1] : []);
    });
    for (let index = forks.length - 1; index >= 0; index--) visit.push(forks[index]);
  }
}

const laneX = (lane) => 12 + Math.min(lane, 10) * 13;
const toneOf = (stream) => stream.lane % 6;

const branchList = new Windowed($("branches"), {
  height: 44,
  key: (index) => `${branchOrder[index].place}${branchOrder[index] === state.branch ? " here" : ""}`,
  draw: (index) => {
    const stream = branchOrder[index], x = laneX(stream.lane), y = 22;
    const graph = drawing("svg", {class: `graph tone-${toneOf(stream)}`, width: x + 12, height: 44, "aria-hidden": "true"});
    for (const lane of stream.through) graph.append(drawing("path", {class: `tone-${lane % 6}`, d: `M${laneX(lane)} 0V44`}));
    if (stream.parent !== null) {
      const up = laneX(stream.lane - 1);
      if (!stream.lastChild) graph.append(drawing("path", {class: `tone-${(stream.lane - 1) % 6}`, d: `M${up} 0V44`}));
      graph.append(drawing("path", {d: `M${up} 0C${up} ${y} ${up} ${y} ${x} ${y}`}));
    }
    if (stream.children) graph.append(drawing("path", {d: `M${x} ${y}V44`}));
    graph.append(drawing("circle", {class: "dot", cx: x, cy: y, r: 4.5}));
    const from = stream.parent === null ? "" : say("forked_at", {name: called(streams[stream.parent]), version: stream.forked});
    const facts = [from, say("event_count", {n: stream.rows.length}), stream.archived ? say("archived") : ""];
    const button = make("button", `branch${stream.archived ? " archived" : ""}`, graph,
      make("span", "what", make("span", "name", called(stream)), make("span", "sub", facts.filter(Boolean).join(" · "))));
    button.title = shown(stream.id);
    if (stream === state.branch) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => { go(stream, stream.size); closeMenu(); });
    return button;
  },
});

function paintBranches(moved) {
  if (!moved) return;
  branchList.show(branchOrder.length);
  branchList.reveal(state.branch.row);
}

// -- events: the history of the branch, with the branches that leave it -----------------------------------------

const ROW = matchMedia("(pointer: coarse)").matches ? 40 : 30;
let eventBranch = null, eventNumber = 0;

const eventList = new Windowed($("events"), {
  height: ROW,
  key: (index) => `${eventBranch.place} ${index}${index + 1 === state.number ? " here" : ""}`,
  draw: (index) => {
    const number = index + 1, {stream, version} = locate(eventBranch, number);
    const row = rowOf(stream, version), told = tale(stream, version), middle = ROW / 2;
    const graph = drawing("svg", {class: `graph tone-${toneOf(stream)}`, width: 34, height: ROW, "aria-hidden": "true"});
    const forks = (stream.forks.get(version) || []).filter((fork) => locate(eventBranch, Math.min(number + 1, eventBranch.size)).stream !== fork);
    const turns = version === 1 && stream.parent !== null;
    if (turns) graph.append(drawing("path", {class: `tone-${toneOf(streams[stream.parent])}`, d: `M12 0V${middle - 5}`}));
    graph.append(drawing("path", {d: `M12 ${number === 1 ? middle : turns ? middle - 5 : 0}V${number === eventBranch.size ? middle : ROW}`}));
    if (forks.length) graph.append(drawing("path", {class: `tone-${toneOf(forks[0])}`, d: `M12 ${middle}C22 ${middle} 26 ${middle + 4} 26 ${ROW}`}));
    graph.append(drawing("circle", {class: "dot", cx: 12, cy: middle, r: row.change || row.pins ? 4 : 2.5}));
    const link = make("a", "event", graph, make("span", "number", String(version)), make("span", "what", make("span", `kind-${told.kind === "failed" ? "failed" : "other"}`, told.text)));
    if (row.change || row.pins) link.classList.add("moves");
    if (stream !== eventBranch) link.classList.add("inherited");
    if (forks.length) {
      const chip = make("span", "chip", drawing("svg", {viewBox: "0 0 12 12", "aria-hidden": "true"}, drawing("path", {d: "M3 1v10M3 7c4 0 6-1.5 6-6"})),
        make("span", "", forks.length === 1 ? called(forks[0]) : whole.format(forks.length)));
      chip.title = forks.slice(0, 20).map(called).join(", ");
      chip.addEventListener("click", (event) => { event.preventDefault(); event.stopPropagation(); go(forks[0], forks[0].size); closeMenu(); });
      link.append(chip);
    }
    if (number === state.number) link.setAttribute("aria-current", "true");
    link.href = addressOf(stream, version);
    link.title = `${when(row.time)} · ${told.text}`;
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go(eventBranch, number);
      closeMenu();
    });
    return link;
  },
});

function paintEvents(moved) {
  if (moved || eventBranch !== state.branch) {
    eventBranch = state.branch;
    $("event-count").textContent = whole.format(eventBranch.size);
    eventList.show(eventBranch.size);
  } else if (eventNumber !== state.number) {
    for (const number of [eventNumber, state.number]) { // only these two look different
      eventList.keys[number - 1] = eventList.options.key(number - 1);
      eventList.where = null;
    }
    eventList.render();
  }
  eventNumber = state.number;
  eventList.reveal(state.number - 1);
}

// -- the chat: the view at an event, what left it in its place, and what was asked ------------------------------

let items = [], chatBranch = null;

/** The view at the event, with what has just changed. */
function itemsAt(branch, number) {
  const {stream, version} = locate(branch, number);
  const row = rowOf(stream, version), view = views.at(branch, number);
  const came = new Set(), pinned = new Set(), unpinned = new Set();
  for (const [, , into] of row.change || []) into.forEach((id) => came.add(id));
  if (row.pins) { row.pins[0].forEach((id) => pinned.add(id)); row.pins[1].forEach((id) => unpinned.add(id)); }
  const list = view.ids.map((id) => {
    const marks = [];
    if (came.has(id)) marks.push(["added", say("added")]);
    if (pinned.has(id)) marks.push(["pinned", say("now_pinned")]);
    if (unpinned.has(id)) marks.push(["pinned", say("now_unpinned")]);
    return {id, pinned: view.pins.has(id), marks, key: `${branch.place} ${id}${view.pins.has(id) ? " p" : ""}${marks.map((one) => one[1]).join()}`, moved: marks.length > 0};
  });
  // Put what left back in its place, the last change first, so that the places are those of the view before it.
  for (const [place, out] of (row.change || []).slice().reverse()) {
    const gone = out.map((id) => ({id, marks: [["removed", say("removed")]], key: `${branch.place} ${id} gone`, moved: true}));
    list.splice(place, 0, ...gone);
  }
  return list.concat(pending(branch, stream, version, row));
}

/** What an event tells that does not stand in the view: a question that waits, half an answer, a remark. */
function pending(branch, stream, version, row) {
  const found = [], id = (number) => stream.base + number;
  const data = row.data || {};
  if (row.type === "message_added" && data.request !== undefined && !data.answer) {
    for (let one = version; one >= 1; one--) {
      const before = rowOf(stream, one);
      if (before.type !== "message_added" || !before.data || before.data.request !== data.request) break;
      found.unshift({id: id(one), marks: [["waiting", say("waiting")]], key: `${branch.place} ${id(one)} waits`, moved: true});
    }
  } else if (row.type === "request_failed" || (row.type === "request_stopped" && !data.kept)) {
    const started = data.request - stream.base;
    for (let one = started + 1; one > 0 && one < version && one < started + 50; one++) {
      const before = rowOf(stream, one);
      if (before.type === "message_added" && before.data && before.data.request === data.request) {
        found.push({id: id(one), marks: [["waiting", say("unanswered")]], key: `${branch.place} ${id(one)} unanswered`, moved: true});
      }
    }
    const text = textOf(stream, version);
    if (text.partial) found.push({id: 0, message: text.partial, marks: [["failed", say("came")]], key: `${branch.place} ${id(version)} came`, moved: true});
  } else if (row.type === "remark_added") {
    const told = dataOf(stream, version);
    found.push({id: 0, message: {role: "user", name: `${told.speaker} → ${(told.audiences || []).join(", ")}`, content: String(told.remark)}, marks: [["waiting", say("remark")]], key: `${branch.place} ${id(version)} said`, moved: true});
  }
  return found;
}

function guessed(item, width) {
  const size = item.message ? 200 : (() => { const {stream, version} = locate(chatBranch || state.branch, item.id); return rowOf(stream, version).size || 0; })();
  return 74 + Math.ceil(Math.min(size, START) / Math.max(20, Math.min(width, 740) / 7.5)) * 26;
}

const chatList = new Windowed($("chat"), {
  guess: (index, width) => state.beside ? 220 : guessed(items[index], width),
  key: (index) => items[index].key,
  draw: (index, all) => {
    const item = items[index];
    return make("div", "item", item.pair ? drawPair(item.pair, all) : item.empty ? make("p", "empty", item.empty) : drawMessage(chatBranch, item, all));
  },
});

function paintChat(moved) {
  chatBranch = state.branch;
  items = itemsAt(state.branch, state.number);
  if (!items.length) items = [{key: "empty", empty: say("empty"), message: {}}];
  chatList.show(items.length);
  let first = items.findIndex((item) => item.moved), last = items.length - 1;
  if (first < 0) { if (moved) chatList.reveal(items.length - 1, "end"); return; }
  while (last > first && !items[last].moved) last--;
  if (last - first < 4) chatList.reveal(last, "start");
  chatList.reveal(first, "start");
}

// -- two branches side by side, aligned by question -------------------------------------------------------------

/** The rounds of a view: [{key, question, answers}], question 0 for what stands before the first. */
function roundsOf(branch, ids) {
  const rounds = [];
  for (const id of ids) {
    const {stream, version} = locate(branch, id), row = rowOf(stream, version);
    if (row.kind === "u") rounds.push({key: row.asks === undefined ? `id ${id}` : row.asks, question: id, answers: []});
    else if (rounds.length) rounds[rounds.length - 1].answers.push(id);
    else rounds.push({key: "start", question: 0, answers: [id]});
  }
  return rounds;
}

/** Pairs (index in a, index in b) of a longest common sequence; a coarser one where that would take too long. */
function aligned(a, b, most) {
  let start = 0, end = 0;
  const pairs = [];
  while (start < a.length && start < b.length && a[start] === b[start]) pairs.push([start, start++]);
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const n = a.length - start - end, m = b.length - start - end;
  if (n && m && n * m <= most) {
    const wide = m + 1, table = new Uint16Array((n + 1) * wide);
    for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--) {
      table[i * wide + j] = a[start + i] === b[start + j] ? table[(i + 1) * wide + j + 1] + 1 : Math.max(table[(i + 1) * wide + j], table[i * wide + j + 1]);
    }
    for (let i = 0, j = 0; i < n && j < m;) {
      if (a[start + i] === b[start + j]) pairs.push([start + i++, start + j++]);
      else if (table[(i + 1) * wide + j] >= table[i * wide + j + 1]) i++; else j++;
    }
  } else if (n && m) {
    const where = new Map();
    for (let j = start + m - 1; j >= start; j--) where.set(b[j], j);
    for (let i = start, next = start; i < start + n; i++) {
      const j = where.get(a[i]);
      if (j !== undefined && j >= next) { pairs.push([i, j]); next = j + 1; }
    }
  }
  for (let one = end; one > 0; one--) pairs.push([a.length - one, b.length - one]);
  return pairs;
}

/** Whether two branches' messages are one and the same event, or say the same. */
function sameMessage(a, idA, b, idB) {
  const one = locate(a, idA), two = locate(b, idB);
  if (one.stream === two.stream && one.version === two.version) return true;
  return JSON.stringify(textOf(one.stream, one.version).message) === JSON.stringify(textOf(two.stream, two.version).message);
}

let pairsOf = "";

function paintPair(moved) {
  chatBranch = state.branch;
  const {branch, number} = state.beside;
  $("left-name").textContent = `${called(state.branch)} ${$("subtitle").textContent}`;
  const select = $("other");
  if (moved || !select.length || select.dataset.left !== String(state.branch.place)) {
    select.dataset.left = String(state.branch.place);
    select.replaceChildren(...streams.filter((one) => one !== state.branch).slice(0, 1000).map((one) => {
      const option = make("option", "", called(one));
      option.value = String(one.place);
      return option;
    }));
  }
  select.value = String(branch.place);
  const name = address();
  const left = roundsOf(state.branch, views.at(state.branch, state.number).ids);
  const right = roundsOf(branch, otherViews.at(branch, number).ids);
  const found = aligned(left.map((one) => one.key), right.map((one) => one.key), 9e6);
  items = [];
  let i = 0, j = 0;
  const push = (a, b) => items.push({message: {}, key: `pair ${state.branch.place} ${a ? `${a.question}.${a.answers.join(".")}` : ""} ${branch.place} ${b ? `${b.question}.${b.answers.join(".")}` : ""}`, pair: {a, b, left: state.branch, right: branch}});
  for (const [x, y] of found.concat([[left.length, right.length]])) {
    while (i < x) push(left[i++], null);
    while (j < y) push(null, right[j++]);
    if (x < left.length && y < right.length) push(left[i++], right[j++]);
  }
  if (!items.length) items = [{key: "empty", empty: say("empty"), message: {}}];
  chatList.show(items.length);
  if (name !== pairsOf && moved) {
    const first = items.findIndex(({pair}) => pair && (!pair.a || !pair.b || pair.a.answers.length !== pair.b.answers.length || pair.a.answers.some((id, at) => id !== pair.b.answers[at])));
    chatList.reveal(first < 0 ? items.length - 1 : first, "top");
  }
  pairsOf = name;
}

function drawPair({a, b, left, right}, all) {
  const same = a && b && a.answers.length === b.answers.length && a.answers.every((id, at) => sameMessage(left, id, right, b.answers[at]));
  const box = make("section", `pair${same ? " same" : ""}`);
  const [branch, round] = a ? [left, a] : [right, b];
  const body = make("div", "body plain");
  if (round.question) {
    const {stream, version} = locate(branch, round.question);
    if (rowOf(stream, version).redacted) body.append(make("span", "gone", say("redacted")));
    else parts(body, textOf(stream, version).message || {}, `pair ${round.question}`, false, all);
  } else {
    body.append(make("span", "note", say("before_questions")));
  }
  box.append(make("div", "question", body, make("span", `chip${same ? "" : a && b ? " pinned" : a ? " removed" : " added"}`, say(same ? "same" : a && b ? "changed" : "only_here"))));
  const words = a && b && !same ? wordsOf(left, a, right, b) : null;
  [[left, a, 0], [right, b, 1]].forEach(([stream, one, side]) => {
    const cell = make("div", one ? "side" : "side none");
    if (one) one.answers.forEach((id, at) => {
      const message = drawMessage(stream, {id, key: "pair"}, all);
      if (words && at === words.at[side]) message.querySelector(".body").replaceChildren(marked(words, side));
      cell.append(message);
    });
    box.append(cell);
  });
  return box;
}

const WORD = /[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]|[\p{L}\p{N}_]+|\s+|./gsu;

/** The words of two answers that are one plain text each, and which of them are in both. */
function wordsOf(left, a, right, b) {
  const texts = [[left, a], [right, b]].map(([stream, round]) => {
    const at = round.answers.length - 1;
    if (at < 0) return null;
    const place = locate(stream, round.answers[at]), row = rowOf(place.stream, place.version);
    const message = textOf(place.stream, place.version).message || {};
    return !row.redacted && typeof message.content === "string" && message.content.length < LONG && !message.tool_calls ? {at, text: message.content} : null;
  });
  if (!texts[0] || !texts[1]) return null;
  const [one, two] = texts.map(({text}) => text.match(WORD) || []);
  const pairs = aligned(one, two, 4e6);
  const shared = pairs.reduce((sum, [at]) => sum + (one[at].trim() ? one[at].length : 0), 0);
  if (shared * 4 < Math.min(texts[0].text.length, texts[1].text.length)) return null; // too little in common to be told apart by words
  return {at: [texts[0].at, texts[1].at], words: [one, two], both: [new Set(pairs.map((pair) => pair[0])), new Set(pairs.map((pair) => pair[1]))]};
}

function marked({words, both}, side) {
  const box = make("div", "plain");
  let run = "", inside = true;
  const end = () => {
    if (!run) return;
    const goal = inside ? box : make(side ? "ins" : "del", "word");
    write(goal, run);
    if (!inside) box.append(goal);
    run = "";
  };
  words[side].forEach((word, at) => {
    const shared = both[side].has(at);
    if (shared !== inside) { end(); inside = shared; }
    run += word;
  });
  end();
  return box;
}

function compare(on) {
  if (on && streams.length < 2) { notice(say("alone")); return; }
  let beside = null;
  if (on) {
    const near = state.branch.parent !== null ? streams[state.branch.parent] : branchOrder[state.branch.row + 1] || branchOrder[state.branch.row - 1];
    beside = {branch: near, number: near.size};
  }
  go(state.branch, state.number, {beside, top: true});
}

// -- the time line ----------------------------------------------------------------------------------------------

const slider = $("slider"), canvas = $("marks");
const WEIGHTS = {quiet: 0, message: 1, question: 1, answer: 2, fork: 3, pinned: 4, restored: 5, removed: 6, failed: 7};
const COLOURS = {quiet: "--line", message: "--quiet", question: "--quiet", answer: "--accent", fork: "--ink", pinned: "--pinned", restored: "--lane-2", removed: "--removed", failed: "--failed"};
const EDGE = 4; // pixels at both ends, so that the first mark and the last are whole
const TALL = {quiet: .2, message: .35, question: .35, answer: .55, fork: 1, pinned: .7, restored: .7, removed: .8, failed: .8};

/** A mark for each event, or for the one that matters most where many share a place. */
function paintMarks() {
  const box = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
  if (!box.width) return;
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement), size = state.branch.size;
  const colour = (name) => style.getPropertyValue(name);
  pen.scale(scale, scale);
  const middle = box.height / 2, xOf = (number) => EDGE + (size === 1 ? .5 : (number - 1) / (size - 1)) * (box.width - 2 * EDGE);
  const shared = state.branch.base ? xOf(Math.min(state.branch.base + .5, size)) : 0;
  pen.fillStyle = colour("--line");
  pen.fillRect(EDGE, middle - 1, box.width - 2 * EDGE, 2);
  if (shared) { pen.fillStyle = colour(`--lane-${toneOf(streams[state.branch.parent])}`); pen.globalAlpha = .35; pen.fillRect(EDGE, middle - 1, shared - EDGE, 2); pen.globalAlpha = 1; }
  const wide = clamp(box.width / size * .45, 1.5, 5), bins = new Map();
  let stream = state.branch;
  for (let number = size; number >= 1; number--) {
    while (number <= stream.base) stream = streams[stream.parent];
    const sort = sortOf(rowOf(stream, number - stream.base)), bin = Math.round(xOf(number) / (wide + .5));
    const held = bins.get(bin);
    if (!held || WEIGHTS[sort] > WEIGHTS[held.sort]) bins.set(bin, {sort, x: xOf(number), own: stream === state.branch});
  }
  for (const {sort, x, own} of bins.values()) {
    const tall = (box.height - 8) * TALL[sort];
    pen.fillStyle = colour(COLOURS[sort]);
    pen.globalAlpha = own ? 1 : .5;
    pen.beginPath();
    if (pen.roundRect) pen.roundRect(x - wide / 2, middle - tall / 2, wide, tall, wide / 2); else pen.rect(x - wide / 2, middle - tall / 2, wide, tall);
    pen.fill();
  }
}

slider.addEventListener("input", () => go(state.branch, Number(slider.value)));
slider.addEventListener("change", () => record());
new ResizeObserver(() => { if (state.branch) paintMarks(); }).observe(canvas);

// -- search -------------------------------------------------------------------------------------------------------

const MOST = 200;
let searching = 0, soughtWords = [], chosen = -1;
const finder = $("finder"), results = $("results");

function find(text) {
  clearTimeout(searching);
  searching = 0;
  soughtWords = text.toLowerCase().split(/\s+/).filter(Boolean);
  results.replaceChildren();
  chosen = -1;
  $("state").textContent = "";
  highlight();
  if (!soughtWords.length) return;
  const found = foundIn(text);
  let count = 0, done = false;
  const slice = () => {
    const until = performance.now() + 14;
    while (!done && performance.now() < until) {
      const next = found.next();
      if (next.done) { done = true; break; }
      if (next.value.percent !== undefined) { $("state").textContent = say("searching", {percent: next.value.percent}); continue; }
      results.append(drawFound(next.value));
      if (++count >= MOST) done = true;
    }
    if (!done) { searching = setTimeout(slice, 0); return; }
    $("state").textContent = count >= MOST ? say("found_most", {n: MOST}) : count ? say("found", {n: count}) : say("not_found");
  };
  slice();
}

/** Where the words are, block by block; now and then how far it has come. */
function* foundIn() {
  const holds = (text) => { const low = text.toLowerCase(); return soughtWords.every((word) => low.includes(word)); };
  for (const stream of streams) {
    for (let index = 0; index < stream.rows.length; index++) {
      const row = stream.rows[index];
      if (row.type === "message_added" || !row.data) continue;
      const text = Object.values(row.data).filter((one) => typeof one === "string").join(" ");
      if (text && holds(text)) yield {stream, version: index + 1, text};
    }
  }
  for (let block = 0; block < textBlocks.length; block++) {
    yield {percent: Math.floor(100 * block / textBlocks.length)};
    for (const [place, version, held] of JSON.parse(textBlocks[block].textContent)) {
      const text = spoken(held);
      if (holds(text)) yield {stream: streams[place], version, text, role: held.message && held.message.role};
    }
  }
}

function spoken(held) {
  const found = [];
  for (const message of [held.message, held.partial, ...(held.choices || []).map((choice) => choice.message || choice)]) {
    if (!message) continue;
    for (const part of Array.isArray(message.content) ? message.content : [message.content, message.refusal]) {
      if (typeof part === "string") found.push(part); else if (part && typeof part.text === "string") found.push(part.text);
    }
    for (const call of Array.isArray(message.tool_calls) ? message.tool_calls : []) if (call.function) found.push(`${call.function.name} ${call.function.arguments}`);
  }
  if (held.reasoning) found.push(held.reasoning);
  return found.join("\n");
}

function drawFound({stream, version, text, role}) {
  const link = make("a", "", make("span", "", `${called(stream)} @${version}${role ? " · " + roleOf({role}) : ""}`));
  const low = text.toLowerCase(), same = low.length === text.length;
  const at = same ? Math.max(0, Math.min(...soughtWords.map((word) => low.indexOf(word)))) : 0;
  const piece = shown(text.slice(Math.max(0, at - 40), at + 140));
  const lowPiece = piece.toLowerCase();
  let done = 0;
  while (done < piece.length && lowPiece.length === piece.length) {
    let next = -1, size = 0;
    for (const word of soughtWords) {
      const place = lowPiece.indexOf(word, done);
      if (place >= 0 && (next < 0 || place < next)) { next = place; size = word.length; }
    }
    if (next < 0) break;
    link.append(piece.slice(done, next), make("mark", "", piece.slice(next, next + size)));
    done = next + size;
  }
  link.append(piece.slice(done));
  const goal = joined(stream, version);
  link.href = addressOf(stream, goal);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(stream, goal, stream.base + version);
  });
  return make("li", "", link);
}

/** The version at which what was put on record at *version* joined the view: a question joins with its answer. */
function joined(stream, version) {
  const id = stream.base + version;
  for (let at = version; at <= Math.min(stream.rows.length, version + 60); at++) {
    if ((rowOf(stream, at).change || []).some(([, , came]) => came.includes(id))) return at;
  }
  return version;
}

function choose(stream, version, id) {
  finder.close();
  go(stream, stream.base + version, {beside: null});
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const index = items.findIndex((item) => item.id === id);
    if (index >= 0) chatList.reveal(index, "start");
    highlight();
  }));
}

function pick(by) {
  const links = results.querySelectorAll("a");
  if (!links.length) return;
  if (links[chosen]) links[chosen].removeAttribute("aria-selected");
  chosen = clamp(chosen + by, 0, links.length - 1);
  links[chosen].setAttribute("aria-selected", "true");
  links[chosen].scrollIntoView({block: "nearest"});
}

/** Mark the words that were searched for, in what is drawn, without touching it. */
function highlight() {
  if (typeof CSS === "undefined" || !CSS.highlights || typeof Highlight === "undefined") return;
  CSS.highlights.delete("found");
  if (!soughtWords.length) return;
  const ranges = [];
  const walker = document.createTreeWalker($("chat"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node && ranges.length < 500; node = walker.nextNode()) {
    const low = node.data.slice(0, LONG).toLowerCase();
    for (const word of soughtWords) for (let at = low.indexOf(word); at >= 0 && ranges.length < 500; at = low.indexOf(word, at + word.length)) {
      if (at + word.length > node.length) break;
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + word.length);
      ranges.push(range);
    }
  }
  if (ranges.length) CSS.highlights.set("found", new Highlight(...ranges));
}

function openFinder() {
  if (finder.open) return;
  finder.showModal();
  $("words").focus();
  $("words").select();
}

let typed = 0;
$("words").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(() => find($("words").value), 120); });
$("words").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") pick(1);
  else if (event.key === "ArrowUp") pick(-1);
  else if (event.key === "Escape") finder.close();
  else if (event.key === "Enter") { const link = results.querySelectorAll("a")[Math.max(0, chosen)]; if (link) link.click(); }
  else return;
  event.preventDefault();
});

// -- the rest: theme, menu, notices, keys, paper --------------------------------------------------------------------

let noticed = 0;

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(noticed);
  noticed = setTimeout(() => { $("notice").hidden = true; }, 4000);
}

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  $("theme").title = `${say("theme")}: ${say(`theme_${name}`)}`;
  try { localStorage.setItem("openai2-theme", name); } catch (_) { /* it is kept for this visit only */ }
  if (state.branch) paintMarks();
}

function nextTheme() {
  const now = document.documentElement.dataset.theme || "auto";
  const name = THEMES[(THEMES.indexOf(now) + 1) % 3];
  theme(name);
  notice(say(`theme_${name}`));
}

function closeMenu() {
  document.body.classList.remove("menu-open");
  $("menu").setAttribute("aria-expanded", "false");
}

const HELP = [["← →", "k_arrows"], ["Home End", "k_ends"], ["[ ]", "k_branches"], ["/", "k_find"], ["c", "k_compare"], ["t", "k_theme"], ["?", "k_help"], ["Esc", "k_close"]];
const KEYS = {
  ArrowLeft: (event) => step(event.shiftKey ? -10 : -1), ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
  Home: () => go(state.branch, 1), End: () => go(state.branch, state.branch.size),
  "[": () => turn(-1), "]": () => turn(1), "/": openFinder, "?": () => $("keys").showModal(), c: () => compare(!state.beside), t: nextTheme, Escape: closeMenu,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (document.querySelector("dialog[open]")) return;
  const field = event.target.closest && event.target.closest("input, select, textarea");
  if (field && field !== slider) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

function begin() {
  document.documentElement.lang = CHINESE ? "zh" : "en";
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of document.querySelectorAll("[data-title]")) {
    element.title = say(element.dataset.title);
    element.setAttribute("aria-label", say(element.dataset.title));
  }
  for (const [keys, word] of HELP) {
    $("key-list").append(make("dt", "", ...keys.split(" ").map((key) => make("kbd", "", key))), make("dd", "", say(word)));
  }
  $("about-page").textContent = say("about");
  $("branch-count").textContent = whole.format(streams.length);
  let kept = "auto";
  try { kept = localStorage.getItem("openai2-theme") || "auto"; } catch (_) { /* no storage: as the system has it */ }
  theme(THEMES.includes(kept) ? kept : "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (state.branch) paintMarks(); });
  if (!streams.length || !streams.some((stream) => stream.rows.length)) {
    $("chat").append(make("p", "empty", say("nothing")));
    $("travel").hidden = true;
    return;
  }
  for (const [id, act] of [["first", () => go(state.branch, 1)], ["back", () => step(-1)], ["on", () => step(1)], ["last", () => go(state.branch, state.branch.size)],
    ["find", openFinder], ["compare", () => compare(!state.beside)], ["theme", nextTheme], ["help", KEYS["?"]], ["shade", closeMenu]]) $(id).addEventListener("click", act);
  $("menu").addEventListener("click", () => {
    $("menu").setAttribute("aria-expanded", String(document.body.classList.toggle("menu-open")));
    branchList.lay();
    eventList.lay();
    eventList.reveal(state.number - 1);
  });
  $("other").addEventListener("change", () => {
    const branch = streams[Number($("other").value)];
    go(state.branch, state.number, {beside: {branch, number: branch.size}, top: true});
  });
  window.addEventListener("popstate", () => { if (!follow() && !location.hash) start(); });
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeprint", () => { if (frame) { cancelAnimationFrame(frame); frame = 0; paint(false); } chatList.unroll(); });
  window.addEventListener("afterprint", () => chatList.rollUp());
  if (!follow()) start();
}

function start() {
  const branch = streams[about.opened];
  go(branch, branch.size, {beside: null, settled: true});
}

begin();
// The first view at once, not with the next frame.
if (frame) { cancelAnimationFrame(frame); frame = 0; fresh = false; paint(true); }
})();
