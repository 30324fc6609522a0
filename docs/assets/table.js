/* Tables of class "sortable": a click on a head sorts by it, a field above keeps rows that hold all of its words. */
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const compare = (a, b) => {
          const [one, two] = [value(a, column), value(b, column)];
          if ((one === "") !== (two === "")) return one === "" ? 1 : -1; // what is not known comes last
          const [x, y] = [Number(one), Number(two)];
          const order = Number.isNaN(x) || Number.isNaN(y) ? one.localeCompare(two) : x - y;
          return down ? -order : order;
        };
        body.append(...rows.sort(compare));
      });
    });
    const field = document.querySelector(`input[data-filters="${table.id}"]`);
    const count = document.querySelector(`output[data-counts="${table.id}"]`);
    const filter = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.dataset.words;
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = `${shown} of ${rows.length}`;
    };
    if (field && count) {
      field.addEventListener("input", filter);
      filter();
    }
  }
});
