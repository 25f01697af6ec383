// From text to elements. Everything is added as text nodes: no text is ever parsed as markup.

/** Create an element; null, undefined and "" in *content* are skipped. */
function el(tag, classes, ...content) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...content.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

function svg(tag, attributes, ...content) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  element.append(...content);
  return element;
}

// Control characters, and invisible characters that change how text is read or ordered.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g;
const hasInvisible = new RegExp(INVISIBLE.source);

const codePoint = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** Return a short text on one line, invisible characters replaced by their code points. */
function visible(text) {
  return String(text).replace(/\r\n?|\n/g, " ").replace(INVISIBLE, (character) => `⟨${codePoint(character)}⟩`);
}

/** Append text to an element, with badges for invisible characters. */
function appendText(element, text) {
  text = text.replace(/\r\n/g, "\n");
  if (!hasInvisible.test(text)) { element.append(text); return; }
  let start = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match.index > start) element.append(text.slice(start, match.index));
    element.append(el("span", "ctl", codePoint(match[0])));
    start = match.index + match[0].length;
  }
  if (start < text.length) element.append(text.slice(start));
}

const INLINE_MARKS = /`+|\*\*|\*|__|_|~~|\[|https?:\/\//g;
const REACH = 3000; // characters within which a mark must be closed: keeps the time linear

/** Append inline Markdown: code, strong, emphasis, strikethrough, links. */
function appendInline(element, text, depth = 0) {
  let start = 0;
  const marks = new RegExp(INLINE_MARKS.source, "g");
  for (let match = marks.exec(text); match; match = marks.exec(text)) {
    const span = depth < 6 && parseSpan(text, match.index, match[0]);
    if (!span) continue;
    if (match.index > start) appendText(element, text.slice(start, match.index));
    element.append(span.element);
    if (span.inner !== undefined) appendInline(span.element, span.inner, depth + 1);
    start = marks.lastIndex = span.end;
  }
  if (start < text.length) appendText(element, text.slice(start));
}

const isWord = (character) => /[\p{L}\p{N}]/u.test(character || "");

/** Return {element, end, inner?} of the span that begins with *mark* at *at*, or null. */
function parseSpan(text, at, mark) {
  const near = text.slice(at, at + REACH);
  if (mark[0] === "`") {
    const end = near.indexOf(mark, mark.length);
    if (end < 0 || near[end + mark.length] === "`") return null;
    const code = el("code");
    appendText(code, near.slice(mark.length, end).replace(/^ (.*\S.*) $/s, "$1"));
    return {element: code, end: at + end + mark.length};
  }
  if (mark[0] === "h") {
    const url = /^https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+/.exec(near)[0].replace(/[.,;:!?)\]}*_~]+$/, "");
    const link = url.length > 8 && createLink(url);
    if (!link) return null;
    appendText(link, url);
    return {element: link, end: at + url.length};
  }
  if (mark === "[") {
    const match = /^\[([^\[\]\n]{1,400})\]\(\s*(\S{1,2000}?)(?:\s+"[^"\n]*")?\s*\)/.exec(near);
    const link = match && createLink(match[2]);
    return link ? {element: link, inner: match[1], end: at + match[0].length} : null;
  }
  const after = near[mark.length];
  if (after === undefined || /\s/.test(after) || (mark[0] === "_" && isWord(text[at - 1]))) return null;
  if (mark === "*" && /\d/.test(text[at - 1] || "")) return null; // 2*3*4
  for (let end = near.indexOf(mark, mark.length + 1); end > 0; end = near.indexOf(mark, end + mark.length)) {
    if (/\s/.test(near[end - 1])) continue;
    if (mark === "*" && (near[end + 1] === "*" || near[end - 1] === "*")) { end++; continue; }
    if (mark[0] === "_" && isWord(near[end + mark.length])) continue;
    const tag = mark === "~~" ? "s" : mark.length === 2 ? "strong" : "em";
    return {element: el(tag), inner: near.slice(mark.length, end), end: at + end + mark.length};
  }
  return null;
}

/** Return a link, or null unless the scheme is http or https. */
function createLink(url) {
  let target;
  try { target = new URL(url); } catch (_) { return null; }
  if (target.protocol !== "http:" && target.protocol !== "https:") return null;
  return Object.assign(el("a"), {href: target.href, title: target.href, target: "_blank", rel: "noopener noreferrer"});
}

const FENCE = /^\s*(`{3,}|~{3,})/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^\s*([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^\s*> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** Append Markdown blocks: fences, headings, rules, quotes, lists, tables, paragraphs. */
function appendMarkdown(element, text, depth = 0) {
  const lines = text.replace(/\r\n/g, "\n").split("\n");
  let paragraph = [], at = 0;
  const endParagraph = () => {
    if (paragraph.length) {
      const p = el("p");
      paragraph.forEach((line, index) => { if (index) p.append(el("br")); appendInline(p, line); });
      element.append(p);
    }
    paragraph = [];
  };
  const append = (block) => { endParagraph(); element.append(block); };
  const takeWhile = (test) => { const start = at; while (at < lines.length && test(lines[at])) at++; return lines.slice(start, at); };
  while (at < lines.length) {
    const line = lines[at], next = lines[at + 1] || "";
    let match;
    if ((match = FENCE.exec(line))) {
      const fence = match[1], code = el("code");
      const isEnd = (text) => text.trim().startsWith(fence) && !text.trim().slice(fence.length).replace(/[`~]/g, "");
      at++;
      appendText(code, takeWhile((text) => !isEnd(text)).join("\n"));
      at++;
      append(el("pre", "", code));
    } else if (!line.trim()) {
      endParagraph();
      at++;
    } else if ((match = HEADING.exec(line))) {
      const heading = el(match[1].length < 3 ? "h3" : "h4");
      appendInline(heading, match[2]);
      append(heading);
      at++;
    } else if (RULE.test(line)) {
      append(el("hr"));
      at++;
    } else if (depth < 4 && QUOTE.test(line)) {
      const quote = el("blockquote");
      appendMarkdown(quote, takeWhile((text) => QUOTE.test(text)).map((text) => text.replace(QUOTE, "")).join("\n"), depth + 1);
      append(quote);
    } else if (ITEM.test(line) && !(paragraph.length && /^\s*\d/.test(line) && !/^\s*1[.)]/.test(line))) {
      const items = [];
      takeWhile((text) => {
        if ((match = ITEM.exec(text))) items.push({indent: match[1].length, ordered: /\d/.test(match[2]), start: parseInt(match[2], 10), text: match[3]});
        else if (text.trim() && /^\s/.test(text) && !FENCE.test(text)) items[items.length - 1].text += " " + text.trim();
        else return false;
        return true;
      });
      endParagraph();
      element.append(...nestLists(items));
    } else if (line.includes("|") && next.includes("-") && DIVIDER.test(next.slice(0, 500))) {
      const table = el("table");
      takeWhile((text) => text.includes("|")).forEach((text, row) => {
        if (row === 1) return; // the divider
        const cells = text.trim().replace(/^\||\|$/g, "").split("|").slice(0, 50).map((cell) => {
          const td = el(row ? "td" : "th");
          appendInline(td, cell.trim());
          return td;
        });
        table.append(el("tr", "", ...cells));
      });
      append(table);
    } else {
      paragraph.push(line);
      at++;
    }
  }
  endParagraph();
}

/** Return the lists of these items, nested by indentation. */
function nestLists(items) {
  const top = [], open = [];
  for (const item of items) {
    while (open.length && item.indent < open[open.length - 1].indent) open.pop();
    let last = open[open.length - 1];
    if (!last || (item.indent > last.indent + 1 && open.length < 6) || (item.ordered !== last.ordered && item.indent >= last.indent)) {
      const list = el(item.ordered ? "ol" : "ul");
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
    const li = el("li");
    appendInline(li, item.text);
    last.list.append(li);
  }
  return top;
}
