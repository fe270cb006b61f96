// A table whose columns sort it. It is built once; new rows change the cells there are, so that the focus, the
// order and what is selected stay where they are while figures move.

// columns: {title, value(row), text(value, row), note, words (a column of words, not of figures), link(row),
//           mark(row), falling (sorted from high to low first), optional (hidden where nothing is known)}
// long: of which only the beginning is printed.
class Table {
  constructor(caption, columns, { chosen = () => false, limit = Infinity, sortedBy = -1, long = false } = {}) {
    this.columns = columns;
    this.chosen = chosen;
    this.limit = limit;
    this.rows = [];
    this.sorted = sortedBy;
    this.falling = sortedBy >= 0 && columns[sortedBy].falling !== false;
    this.heads = columns.map((column, i) => this.#head(column, i));
    this.body = element("tbody");
    this.more = element("button", { type: "button", class: "more", hidden: true });
    this.more.addEventListener("click", () => {
      this.limit = Infinity;
      this.#fill();
    });
    const table = element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...this.heads)),
      this.body,
    );
    // Where it is higher than its box, the keyboard must be able to scroll it.
    this.box = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
    this.node = element("div", { class: long ? "table long" : "table" }, this.box, this.more);
  }

  update(rows) {
    this.rows = rows;
    this.#fill();
  }

  #head(column, i) {
    const button = element("button", { type: "button", title: column.note }, column.title);
    button.addEventListener("click", () => {
      this.falling = this.sorted === i ? !this.falling : column.falling !== false && !column.words;
      this.sorted = i;
      this.#fill();
    });
    return element("th", { scope: "col", class: column.words ? "words" : "" }, button);
  }

  #ordered() {
    const column = this.columns[this.sorted];
    if (!column) return this.rows;
    const sign = this.falling ? -1 : 1;
    const keyed = this.rows.map((row) => [column.value(row), row]);
    // What is not known stands last whichever way.
    const absent = (value) => value === null || value === undefined || Number.isNaN(value);
    keyed.sort(([a], [b]) => {
      if (absent(a) || absent(b)) return absent(a) - absent(b);
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
    return keyed.map(([, row]) => row);
  }

  #fill() {
    this.heads.forEach((head, i) => {
      if (i !== this.sorted) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.falling ? "descending" : "ascending");
    });
    const ordered = this.#ordered();
    const shown = ordered.slice(0, this.limit);
    this.absent = this.columns.map((column) => Boolean(column.optional) && !this.rows.some((row) => known(column.value(row))));
    this.heads.forEach((head, i) => (head.hidden = this.absent[i]));
    while (this.body.rows.length > shown.length) this.body.deleteRow(-1);
    while (this.body.rows.length < shown.length) this.body.append(this.#emptyRow());
    shown.forEach((row, i) => this.#set(this.body.rows[i], row));
    this.more.hidden = shown.length === ordered.length;
    setText(this.more, `Show all ${whole(ordered.length)}`);
  }

  #emptyRow() {
    return element(
      "tr",
      {},
      ...this.columns.map((column, i) => {
        const inner = column.link ? [element("a")] : [];
        const kind = i === 0 ? ["th", { scope: "row" }] : ["td", {}];
        return element(kind[0], { ...kind[1], class: column.words ? "words" : "" }, ...inner);
      }),
    );
  }

  #set(line, row) {
    line.classList.toggle("chosen", this.chosen(row));
    this.columns.forEach((column, i) => {
      const cell = line.cells[i];
      cell.hidden = this.absent[i];
      const value = column.value(row);
      const text = column.text ? column.text(value, row) : String(value ?? ABSENT);
      if (column.link) cell.firstChild.setAttribute("href", column.link(row));
      setText(column.link ? cell.firstChild : cell, text);
      if (column.mark) cell.classList.toggle("marked", Boolean(column.mark(row)));
    });
  }
}
