"use strict";
// Everything is readable without this script: it sorts and filters the verdict table, and copies commands.
document.querySelectorAll(".tools").forEach((tools) => {
  const rows = [...document.querySelectorAll("#verdicts tbody tr")];
  const [words, verdict, order] = ["words", "verdict", "order"].map((name) => tools.querySelector(`[name=${name}]`));
  const count = tools.querySelector("output");
  const show = () => {
    let shown = 0;
    for (const row of rows) {
      const fits = row.textContent.toLowerCase().includes(words.value.trim().toLowerCase());
      row.hidden = !fits || (verdict.value !== "" && row.dataset.verdict !== verdict.value);
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  };
  const sort = () => {
    const [key, way] = order.value.split(" ");
    const value = (row) => (key === "name" ? row.dataset.name : Number(row.dataset[key]));
    const sorted = key === "" ? rows : [...rows].sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      return (one > other ? 1 : one < other ? -1 : 0) * (way === "down" ? -1 : 1);
    });
    sorted[0]?.parentNode.append(...sorted);
  };
  words.addEventListener("input", show);
  verdict.addEventListener("change", show);
  order.addEventListener("change", sort);
  tools.hidden = false;
});
document.querySelectorAll("code.command").forEach((code) => {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.textContent = "copy";
  button.setAttribute("aria-label", `copy: ${code.textContent}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  code.after(" ", button);
});
