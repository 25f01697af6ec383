// The model: the events of the page's conversations, and the view at any event. It uses no DOM, so Node can run it.
//
// - A view is never folded here. Each row holds what its event changed; the change is applied, forwards or backwards.
// - A stream is one conversation's own events, with versions 1, 2, 3 …. A branch is a stream with the events that it
//   inherits: numbers 1 to stream.base are its ancestors' events, and stream.base + version are its own.
// - A message id is the number of the event that added the message.

/** Return the page's streams with their rows, linked to parents and forks. *rowBlocks* yields {stream, rows}. */
function readStreams(about, rowBlocks) {
  const streams = about.streams;
  streams.forEach((stream, place) => {
    const parent = stream.parent === null ? null : streams[stream.parent];
    Object.assign(stream, {place, parent, rows: [], frames: [], forks: new Map(), redactions: new Map()});
  });
  for (const {stream, rows} of rowBlocks) for (const row of rows) streams[stream].rows.push(row);
  for (const stream of streams) {
    stream.size = stream.base + stream.rows.length;
    stream.rows.forEach((row, index) => {
      if (row.frame) stream.frames.push(index + 1);
      if (row.type === "redacted" && row.data) stream.redactions.set(row.data.version, row);
    });
    if (!stream.parent) continue;
    const forks = stream.parent.forks;
    if (!forks.has(stream.forked)) forks.set(stream.forked, []);
    forks.get(stream.forked).push(stream);
  }
  return streams;
}

const rowOf = (stream, version) => stream.rows[version - 1];

/** Return the stream that holds event *number* of a branch, and the event's version in it. */
function locate(branch, number) {
  while (number <= branch.base) branch = branch.parent;
  return {stream: branch, version: number - branch.base};
}

/** Return the streams in the order of the graph, forks below their parent. Sets each stream's row and lanes. */
function layOutBranches(streams) {
  const order = [], stack = streams.filter((stream) => !stream.parent).reverse();
  for (const stream of stack) Object.assign(stream, {lane: 0, through: []});
  while (stack.length) {
    const stream = stack.pop();
    stream.row = order.length;
    order.push(stream);
    // The latest fork point first, so that the line to each fork passes only the forks above it.
    const points = Array.from(stream.forks.keys()).sort((a, b) => b - a);
    const forks = points.flatMap((version) => stream.forks.get(version));
    stream.children = forks.length;
    forks.forEach((fork, index) => {
      fork.lane = stream.lane + 1;
      fork.lastChild = index === forks.length - 1;
      fork.through = stream.lane > 12 ? [] : stream.through.concat(stream.lane && !stream.lastChild ? [stream.lane - 1] : []);
    });
    stack.push(...forks.reverse());
  }
  return order;
}

/** The long parts of events (messages, alternatives, reasoning), in blocks that are parsed when they are needed. */
class Texts {
  /** *starts*: [stream's place, version] of the first text of each block; *read(index)*: a block's parsed JSON. */
  constructor(starts, read) {
    this.starts = starts;
    this.read = read;
    this.cache = new Map(); // block index to its texts, least recently used first
  }

  block(index) {
    let texts = this.cache.get(index);
    if (texts) this.cache.delete(index);
    else {
      texts = new Map(this.read(index).map(([place, version, text]) => [`${place} ${version}`, text]));
      if (this.cache.size > 40) this.cache.delete(this.cache.keys().next().value);
    }
    this.cache.set(index, texts);
    return texts;
  }

  of(stream, version) {
    let low = 0, high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >> 1, [place, first] = this.starts[middle];
      if (place < stream.place || (place === stream.place && first <= version)) low = middle + 1; else high = middle;
    }
    return (low && this.block(low - 1).get(`${stream.place} ${version}`)) || {};
  }

  message(stream, version) { return this.of(stream, version).message || {}; }
  data(stream, version) { return rowOf(stream, version).data || this.of(stream, version).data || {}; }
}

// -- views -----------------------------------------------------------------------------------------------------

/** The ids and pins of a branch at one event. */
class View {
  constructor() { this.branch = null; this.number = 0; this.ids = []; this.pins = new Set(); }

  /** Move to event *number* of *branch* and return this. */
  at(branch, number) {
    // The current state is a start only if its last event is an event of this branch, too.
    const shared = this.number > 0 && this.number <= branch.size && locate(branch, this.number).stream === locate(this.branch, this.number).stream;
    this.branch = branch;
    if (!shared || Math.abs(number - this.number) > 400) this.loadFrame(number);
    while (this.number < number) this.apply(++this.number, true);
    while (this.number > number) this.apply(this.number--, false);
    return this;
  }

  /** Load the last complete view at or before *number*. */
  loadFrame(number) {
    for (let stream = this.branch; stream; number = Math.min(number, stream.base), stream = stream.parent) {
      const version = stream.frames.filter((frame) => stream.base + frame <= number).pop();
      if (!version) continue;
      const {ids, pins} = rowOf(stream, version).frame;
      Object.assign(this, {ids: ids.slice(), pins: new Set(pins), number: stream.base + version});
      return;
    }
    Object.assign(this, {ids: [], pins: new Set(), number: 0});
  }

  /** Apply the change of event *number*, forwards or backwards. */
  apply(number, forwards) {
    const {stream, version} = locate(this.branch, number), row = rowOf(stream, version);
    const changes = forwards ? row.change || [] : (row.change || []).slice().reverse();
    for (const [place, removed, added] of changes) {
      const out = forwards ? removed : added, into = forwards ? added : removed;
      if (place === this.ids.length) for (const id of into) this.ids.push(id);
      else if (place + out.length === this.ids.length && !into.length) this.ids.length = place;
      else this.ids = this.ids.slice(0, place).concat(into, this.ids.slice(place + out.length));
    }
    const [pinned, unpinned] = row.pins || [[], []];
    for (const id of forwards ? unpinned : pinned) this.pins.delete(id);
    for (const id of forwards ? pinned : unpinned) this.pins.add(id);
  }
}

/** Return what to show at an event: the view, with the removed messages in their old places, and what is pending.
 *
 * An item: {id, marks, key, pinned?, changed?, message?}. A mark is a key of WORDS; *message* replaces the event's.
 */
function itemsAt(view, texts, branch, number) {
  const {stream, version} = locate(branch, number), row = rowOf(stream, version);
  const {ids, pins} = view.at(branch, number);
  const changes = row.change || [], [pinned, unpinned] = (row.pins || [[], []]).map((list) => new Set(list));
  const added = new Set(changes.flatMap(([, , list]) => list));
  const items = ids.map((id) => {
    const marks = [];
    if (added.has(id)) marks.push("added");
    if (pinned.has(id)) marks.push("now_pinned");
    if (unpinned.has(id)) marks.push("now_unpinned");
    return {id, marks, pinned: pins.has(id), changed: marks.length > 0, key: `${branch.place} ${id} ${pins.has(id)} ${marks}`};
  });
  const marked = (id, mark, more) => ({id, marks: [mark], changed: true, key: `${branch.place} ${id} ${mark}`, ...more});
  // The last change first, so that the places are those of the view before it.
  for (const [place, removed] of changes.slice().reverse()) items.splice(place, 0, ...removed.map((id) => marked(id, "removed")));
  return items.concat(pendingItems(texts, stream, version, marked));
}

/** Return what an event shows outside the view: a waiting question, a partial answer, a remark. */
function pendingItems(texts, stream, version, marked) {
  const row = rowOf(stream, version), data = texts.data(stream, version), items = [];
  const asks = (at) => rowOf(stream, at).type === "message_added" && (rowOf(stream, at).data || {}).request === data.request;
  if (row.type === "message_added" && data.joined === false) items.push(marked(stream.base + version, "aside"));
  else if (row.type === "message_added" && data.request !== undefined && !data.answer) {
    for (let at = version; at >= 1 && asks(at); at--) items.unshift(marked(stream.base + at, "waiting"));
  } else if (row.type === "request_failed" || (row.type === "request_stopped" && !data.kept)) {
    const started = data.request - stream.base;
    for (let at = started + 1; at > 0 && at < version && at < started + 50; at++) if (asks(at)) items.push(marked(stream.base + at, "unanswered"));
    const partial = texts.of(stream, version).partial;
    if (partial) items.push(marked(0, "came", {message: partial, key: `${stream.place} ${version} came`}));
  } else if (row.type === "remark_added") {
    const name = `${data.speaker} → ${(data.audiences || []).join("、")}`;
    items.push(marked(0, "remark", {message: {role: "user", name, content: String(data.remark)}, key: `${stream.place} ${version} remark`}));
  }
  return items;
}

/** Return the version whose event added the message of *version* to the view: a question joins with its answer. */
function joinVersion(stream, version) {
  const id = stream.base + version;
  for (let at = version; at <= Math.min(stream.rows.length, version + 60); at++) {
    if ((rowOf(stream, at).change || []).some(([, , added]) => added.includes(id))) return at;
  }
  return version;
}

/** Return the kind of an event, from its row alone: for its colour and mark. */
function kindOf(row) {
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

/** Count the messages that an event added, removed, and pinned or unpinned. */
function countChanges(row) {
  const added = (row.change || []).flatMap(([, , list]) => list), removed = (row.change || []).flatMap(([, list]) => list);
  const gone = new Set(removed);
  const pins = row.pins ? row.pins[0].length + row.pins[1].filter((id) => !gone.has(id)).length : 0;
  return {added: added.length, removed: removed.length, pins};
}

// -- addresses: #CONVERSATION@VERSION, with ..CONVERSATION@VERSION for a second branch ----------------------------

const addressOf = (stream, version) => `#${encodeURIComponent(stream.id)}@${version}`;

/** Return {branch, number} of an address, or null. The conversation is an id, a name, or the start of an id. */
function parsePlace(streams, text) {
  const match = /^(.*?)(?:@(\d+))?$/s.exec(text);
  let name;
  try { name = decodeURIComponent(match[1]); } catch (_) { return null; }
  let found = streams.filter((stream) => stream.id === name || stream.name === name);
  if (!found.length && name) found = streams.filter((stream) => stream.id.startsWith(name));
  if (found.length !== 1) return null;
  const [branch] = found, version = match[2] === undefined ? branch.rows.length : Number(match[2]);
  return version >= 1 && version <= branch.rows.length ? {branch, number: branch.base + version} : null;
}

// -- two branches, aligned by question ------------------------------------------------------------------------------

/** Return the pairs [left, right] of rounds of two views; one side is null if only the other branch has the round. */
function pairRounds(left, leftIds, right, rightIds) {
  const a = roundsOf(left, leftIds), b = roundsOf(right, rightIds), pairs = [];
  let i = 0, j = 0;
  for (const [x, y] of [...commonPairs(a.map((round) => round.key), b.map((round) => round.key), 9e6), [a.length, b.length]]) {
    while (i < x) pairs.push([a[i++], null]);
    while (j < y) pairs.push([null, b[j++]]);
    if (i < a.length && j < b.length) pairs.push([a[i++], b[j++]]);
  }
  return pairs;
}

/** Return the rounds of a view: [{key, question, answers}]; question is 0 for what precedes the first question. */
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

/** Return the index pairs of a longest common subsequence; of a shorter one if the table would exceed *limit* cells. */
function commonPairs(a, b, limit) {
  let start = 0, end = 0;
  const pairs = [];
  while (start < a.length && start < b.length && a[start] === b[start]) pairs.push([start, start++]);
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const n = a.length - start - end, m = b.length - start - end;
  if (n && m && n * m <= limit) {
    const width = m + 1, table = new Uint16Array((n + 1) * width);
    for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--) {
      table[i * width + j] = a[start + i] === b[start + j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
    for (let i = 0, j = 0; i < n && j < m;) {
      if (a[start + i] === b[start + j]) pairs.push([start + i++, start + j++]);
      else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i++; else j++;
    }
  } else if (n && m) {
    const places = new Map();
    for (let j = start + m - 1; j >= start; j--) places.set(b[j], j);
    for (let i = start, next = start; i < start + n; i++) {
      const j = places.get(a[i]);
      if (j !== undefined && j >= next) { pairs.push([i, j]); next = j + 1; }
    }
  }
  for (let left = end; left > 0; left--) pairs.push([a.length - left, b.length - left]);
  return pairs;
}

/** True if two branches' messages are the same event or have the same content. */
function isSameMessage(texts, a, idA, b, idB) {
  const one = locate(a, idA), two = locate(b, idB);
  if (one.stream === two.stream && one.version === two.version) return true;
  return JSON.stringify(texts.message(one.stream, one.version)) === JSON.stringify(texts.message(two.stream, two.version));
}

const WORD = /[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]|[\p{L}\p{N}_]+|\s+|./gsu;
const LONG = 20000; // characters: a longer text is shortened at first, and neither compared nor highlighted

/** Return the words of two rounds' last answers and which of them both have; null if a diff would not help. */
function compareAnswers(texts, left, a, right, b) {
  const answers = [[left, a], [right, b]].map(([branch, round]) => {
    if (!round.answers.length) return null;
    const {stream, version} = locate(branch, round.answers[round.answers.length - 1]), message = texts.message(stream, version);
    const plain = typeof message.content === "string" && message.content.length < LONG && !message.tool_calls;
    return plain && !rowOf(stream, version).redacted ? message.content : null;
  });
  if (answers.includes(null)) return null;
  const words = answers.map((text) => text.match(WORD) || []);
  const pairs = commonPairs(words[0], words[1], 4e6);
  const shared = pairs.reduce((sum, [at]) => sum + words[0][at].trim().length, 0);
  if (shared * 4 < Math.min(answers[0].length, answers[1].length)) return null; // mostly different texts
  return {words, both: [new Set(pairs.map((pair) => pair[0])), new Set(pairs.map((pair) => pair[1]))]};
}
