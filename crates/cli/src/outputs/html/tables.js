// Tables that are sorted by a click on a column's head and grow by a click below.

const FIRST = 50;
const STEP = 200;

// A column: head, a key to sort by, and what fills a cell. `columns[by]` sorts at first; texts from
// a to z, figures from the largest.
function sortableTable(place, columns, by, rows) {
  let shown = FIRST;
  let [sorted, reverse] = [by, false];
  let kept = rows;
  const body = element("tbody");
  const more = element("button", "more");
  const heads = columns.map((column, at) => {
    const button = element("button", "", column.head);
    button.title = column.title || "";
    button.onclick = () => {
      [sorted, reverse] = [at, sorted === at && !reverse];
      show();
    };
    return element("th", column.left ? "left" : "", button);
  });
  more.onclick = () => {
    shown += STEP;
    show();
  };
  const show = () => {
    const { key, left } = columns[sorted];
    const compare = left
      ? (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0)
      : (a, b) => (key(b) ?? -1) - (key(a) ?? -1);
    const order = [...kept].sort((a, b) => (reverse ? -compare(a, b) : compare(a, b)));
    heads.forEach((head, at) => {
      if (at !== sorted) return head.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", Boolean(left) === reverse ? "descending" : "ascending");
    });
    body.replaceChildren(...order.slice(0, shown).map((row) => {
      const line = element("tr");
      for (const column of columns) {
          const cell =
              element("td", [ column.left && "left", column.className ].filter(Boolean).join(" "));
          column.fill(cell, row);
          line.append(cell);
      }
      return line;
    }));
    more.hidden = order.length <= shown;
    more.textContent = `Show more (${grouped(order.length - shown)} left)`;
  };
  place.replaceChildren(
      element("table", "", element("thead", "", element("tr", "", ...heads)), body), more);
  show();
  return {
    keep(wanted) {
      kept = rows.filter(wanted);
      shown = FIRST;
      show();
      return kept.length;
    },
  };
}

// A share with a bar that shows it.
function partColumn(head, value) {
  const fill = (cell, row) => {
    const bar = element("i");
    bar.style.width = data.total > 0 ? (value(row) * 50 / data.total) + "px" : "0";
    cell.append(bar, share(value(row), data.total));
  };
  return { head, key: value, className: "part", fill };
}

function textColumn(head, key, className) {
  return { head, key, left: true, className, fill: (cell, row) => cell.append(key(row)) };
}

function functionsTable(chosen) {
    const rows =
        functions.name.map((_, at) => at).filter((at) => at !== ALL && functions.total[at] > 0);
    // What has the same weight of its own goes by its total.
    rows.sort((a, b) => functions.total[b] - functions.total[a]);
    const value = (head, title, of) => ({
        head,
        title,
        key : of,
        fill : (cell, at) => cell.append(data.unit === "ns" ? time(of(at)) : grouped(of(at)))
    });
    const own = (at) => functions.own[at];
    const total = (at) => functions.total[at];
    const name = {
        head : "Function",
        key : (at) => functions.name[at],
        left : true,
        className : "name",
        fill : (cell, at) => {
            const button = element("button", "", functions.name[at]);
            button.title = "Search for it in the graph";
            button.onclick = () => chosen(functions.name[at]);
            cell.append(button);
        },
    };
    return sortableTable(byId("functions").querySelector(".wide"),
                         [
                             value("Self", "Weight of the stacks that end in it", own),
                             partColumn("Self %", own),
                             value("Total", "Weight of the stacks that it is in", total),
                             partColumn("Total %", total),
                             name,
                             textColumn("Module", (at) => fileName(moduleOf(at)), "quiet"),
                         ],
                         own(rows[0] ?? ALL) || rows.some((at) => own(at)) ? 0 : 2, rows);
}

function probedTable() {
  const seconds = data.header.elapsed_ns / 1e9;
  const duration = (head, key) => ({
      head,
      key : (row) => row[key],
      fill : (cell, row) => cell.append(row[key] == null ? "–" : time(row[key]))
  });
  const columns = [
      {
          head : "Calls",
          key : (row) => row.calls,
          fill : (cell, row) => cell.append(grouped(row.calls))
      },
      {
          head : "Rate",
          key : (row) => row.calls,
          fill : (cell, row) =>
              cell.append(seconds > 0 ? quantity(row.calls / seconds) + "/s" : "–")
      },
      duration("p50", "p50_ns"),
      duration("p90", "p90_ns"),
      duration("p99", "p99_ns"),
      duration("Max", "max_ns"),
      duration("Total", "total_ns"),
      duration("Self", "self_ns"),
      {
          ...textColumn("Function", (row) => row.name, "name"),
          fill : (cell, row) => cell.append(row.name + (row.note ? "  (" + row.note + ")" : ""))
      },
      textColumn("Module", (row) => row.object, "quiet"),
  ].filter((column, at) => at < 2 || at > 7 || data.probed.some((row) => column.key(row) != null));
  sortableTable(byId("probed").querySelector(".wide"), columns, 0, data.probed);
}
