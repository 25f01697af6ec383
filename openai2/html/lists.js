// Lists of which only the part near the screen is drawn.

let printing = false; // while true, everything is drawn in full

/** A list of rows of one height. Only the rows near the screen are in the document. */
class RowList {
  constructor(scroller, height, draw) {
    Object.assign(this, {scroller, height, draw, count: 0, rows: new Map(), room: el("div", "room")});
    scroller.append(this.room);
    scroller.addEventListener("scroll", () => this.render(), {passive: true});
    new ResizeObserver(() => this.render()).observe(scroller);
  }

  /** Draw a list of *count* rows from new. */
  show(count) {
    this.count = count;
    this.rows.clear();
    this.room.replaceChildren();
    this.room.style.height = `${count * this.height}px`;
    this.render();
  }

  render() {
    const {scrollTop, clientHeight} = this.scroller, spare = clientHeight / 2;
    const first = Math.max(0, Math.floor((scrollTop - spare) / this.height));
    const end = Math.min(this.count, Math.ceil((scrollTop + clientHeight + spare) / this.height));
    for (const index of [...this.rows.keys()]) if (index < first || index >= end) this.drop(index);
    for (let index = first; index < end; index++) {
      if (this.rows.has(index)) continue;
      const row = this.draw(index);
      row.style.top = `${index * this.height}px`;
      this.rows.set(index, row);
      this.room.append(row);
    }
  }

  drop(index) {
    if (this.rows.has(index)) this.rows.get(index).remove();
    this.rows.delete(index);
  }

  /** Scroll to a row if it is not on the screen. */
  reveal(index) {
    const {scrollTop, clientHeight} = this.scroller, top = index * this.height, end = top + this.height;
    if (top < scrollTop) this.scroller.scrollTop = top - Math.min(40, clientHeight / 8);
    else if (end > scrollTop + clientHeight) this.scroller.scrollTop = end - clientHeight;
    this.render();
  }
}

/** A list of items of any height, in chunks of 16. Only the chunks near the screen have content.
 *
 * The stylesheet skips the others (content-visibility), with the height that they had or a guess
 * (contain-intrinsic-size). To draw all of 10,000 messages would take half a second at each change of branch.
 */
class ItemList {
  /** *draw(item)* returns an element; *guess(item)* a height in pixels for an item that was never drawn. */
  constructor(scroller, draw, guess) {
    Object.assign(this, {scroller, draw, guess, items: [], chunks: new Map(), order: []});
    const skips = CSS.supports("content-visibility", "hidden");
    this.observer = new IntersectionObserver((entries) => {
      if (printing) return;
      for (const {target, isIntersecting} of entries) if (isIntersecting) this.fill(target); else if (skips) this.clear(target);
    }, {root: scroller, rootMargin: "60% 0px"});
  }

  /** Show *items*. Elements are kept by the items' keys; what is at the top of the screen stays there. */
  show(items) {
    const {scroller} = this, anchor = this.firstOnScreen(), offset = anchor && anchor.offsetTop - scroller.scrollTop, old = this.chunks;
    this.items = items;
    this.chunks = new Map();
    const added = [];
    let chunk = null, block = -1;
    items.forEach((item, index) => {
      const next = (item.id === undefined ? index : item.id) >> 4; // by id, so that other chunks keep their items
      if (next !== block) {
        block = next;
        let key = String(block);
        while (this.chunks.has(key)) key += "+";
        chunk = old.get(key) || el("div", "chunk");
        if (!old.has(key)) added.push(chunk);
        chunk.items = [];
        this.chunks.set(key, chunk);
      }
      chunk.items.push(item);
    });
    this.order = [...this.chunks.values()];
    for (const [key, node] of old) if (!this.chunks.has(key)) this.observer.unobserve(node);
    replaceChildren(scroller, this.order);
    this.order.filter((node) => this.isNear(node)).forEach((node) => this.fill(node));
    for (const node of added) {
      node.style.containIntrinsicBlockSize = `auto ${node.items.reduce((sum, item) => sum + this.guess(item), 0)}px`;
      this.observer.observe(node);
    }
    if (anchor && anchor.isConnected) scroller.scrollTop = anchor.offsetTop - offset;
    this.fillScreen();
  }

  isNear(chunk) { return chunk.classList.contains("near"); }

  fill(chunk) {
    const old = new Map(Array.from(chunk.children, (node) => [node.key, node]));
    replaceChildren(chunk, chunk.items.map((item) => old.get(item.key) || this.create(item)));
    chunk.classList.add("near");
  }

  create(item) { return Object.assign(el("div", "item", this.draw(item)), {key: item.key}); }

  clear(chunk) {
    chunk.classList.remove("near");
    chunk.replaceChildren();
  }

  /** Return the index of the first chunk on the screen. */
  firstChunk() {
    let low = 0, high = this.order.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1, chunk = this.order[middle];
      if (chunk.offsetTop + chunk.offsetHeight <= this.scroller.scrollTop) low = middle + 1; else high = middle;
    }
    return low;
  }

  firstOnScreen() {
    const chunk = this.order[this.firstChunk()], top = this.scroller.scrollTop;
    return chunk && Array.from(chunk.children).find((node) => node.offsetTop + node.offsetHeight > top);
  }

  /** Draw what is on the screen at once: the observer is one frame late. */
  fillScreen() {
    for (let empty = null; !empty || empty.length;) {
      const first = this.firstChunk(), end = this.scroller.scrollTop + this.scroller.clientHeight;
      let last = first;
      while (last < this.order.length && this.order[last].offsetTop < end) last++;
      empty = this.order.slice(first, last).filter((chunk) => !this.isNear(chunk));
      empty.forEach((chunk) => this.fill(chunk));
    }
  }

  /** Scroll to an item if it is not on the screen. *edge*: "end" prefers its end; "top" always scrolls it near the top. */
  reveal(index, edge) {
    const {scroller} = this, {key} = this.items[index], chunk = this.order.find(({items}) => items.includes(this.items[index]));
    if (!this.isNear(chunk)) this.fill(chunk);
    const node = Array.from(chunk.children).find((child) => child.key === key);
    for (let round = 0; round < 8; round++) { // what is drawn on the way may have another height than guessed
      const top = scroller.scrollTop, room = scroller.clientHeight, start = node.offsetTop, end = start + node.offsetHeight;
      let goal = top;
      if (edge === "top") goal = clamp(start - room / 5, 0, Math.max(0, scroller.scrollHeight - room));
      else if (end - start > room) goal = edge === "end" ? end - room : start;
      else if (start < top) goal = start - Math.min(40, room / 8);
      else if (end > top + room) goal = end - room;
      if (Math.abs(goal - top) < 1) return;
      scroller.scrollTop = goal;
      this.fillScreen();
    }
  }

  /** Draw all items in full, for printing, or only those near the screen again. */
  print(all) {
    printing = all;
    for (const chunk of this.order) {
      chunk.replaceChildren();
      if (all || this.isNear(chunk)) chunk.append(...chunk.items.map((item) => this.create(item)));
    }
  }
}

/** Make *nodes* the children of *parent*; those that stay are not moved, so that they keep the focus. */
function replaceChildren(parent, nodes) {
  const staying = new Set(nodes);
  for (const child of [...parent.children]) if (!staying.has(child)) child.remove();
  let place = parent.firstChild;
  for (const node of nodes) if (node === place) place = place.nextSibling; else parent.insertBefore(node, place);
}
