// Removes the blocks that do not fit on their page, then writes down where each character of the others stands.
function rectangles(page, element) {
  const origin = page.getBoundingClientRect(), found = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    let place = 0;
    for (const character of node.data) {
      const range = document.createRange();
      range.setStart(node, place);
      range.setEnd(node, place + character.length);
      place += character.length;
      const box = range.getBoundingClientRect();
      if (character.trim()) found.push([character, box.left - origin.left, box.top - origin.top, box.right - origin.left, box.bottom - origin.top]);
    }
  }
  return found;
}
function around(boxes) {
  return [Math.min(...boxes.map(b => b[1])), Math.min(...boxes.map(b => b[2])), Math.max(...boxes.map(b => b[3])), Math.max(...boxes.map(b => b[4]))];
}
function fits(page, box) {
  return box[0] >= 0 && box[1] >= 0 && box[2] <= page.clientWidth && box[3] <= page.clientHeight - 2;
}
function trimmed(page, block) {
  // A paragraph that is too long loses words from its end; another block is removed.
  while (block.dataset.c === "Text" && block.textContent.includes(" ") && !fits(page, around(rectangles(page, block)))) {
    const words = block.textContent.split(" ");
    block.textContent = words.slice(0, Math.max(1, Math.min(words.length - 1, Math.floor(words.length * 0.93)))).join(" ");
  }
  const characters = rectangles(page, block);
  return characters.length && fits(page, around(characters)) ? characters : null;
}
const truth = [];
for (const page of document.querySelectorAll(".page")) {
  const blocks = [];
  for (const block of [...page.querySelectorAll("[data-c]")]) {
    if (!trimmed(page, block)) block.remove();
  }
  for (const block of page.querySelectorAll("[data-c]")) {
    const characters = rectangles(page, block), cells = block.dataset.c === "Table" ? [...block.querySelectorAll("td")] : [block];
    const ruled = block.dataset.c === "Table" ? block.getBoundingClientRect() : null, origin = page.getBoundingClientRect();
    const box = ruled ? [ruled.left - origin.left, ruled.top - origin.top, ruled.right - origin.left, ruled.bottom - origin.top] : around(characters);
    blocks.push({
      category: block.dataset.c, box: box, characters: characters,
      words: cells.map(cell => cell.textContent.trim().split(/\s+/)),
      rows: block.dataset.c === "Table" ? [...block.rows].map(row => row.cells.length) : [],
    });
  }
  truth.push(blocks);
}
const output = document.createElement("pre");
output.id = "truth";
output.textContent = JSON.stringify(truth);
document.body.append(output);
