// A report as a list of blocks, rendered as Markdown with separate pictures, or as one self-contained HTML page, light or dark. All text is
// escaped here.

export type Block =
  | { kind: "heading"; text: string }
  | { kind: "text"; text: string }
  | { kind: "code"; text: string }
  | Table
  | { kind: "picture"; name: string; alt: string; svg: string };

interface Table {
  kind: "table";
  rows: readonly (readonly string[])[]; // the first is the heading
  best?: readonly number[]; // highlighted rows
  words?: boolean; // no figures: all columns are left-aligned
  caption?: string;
}

/** @param pictureName the file's name of a picture, beside the Markdown */
export function toMarkdown(title: string, blocks: readonly Block[], pictureName: (name: string) => string): string {
  const parts = blocks.map((block): string => {
    switch (block.kind) {
      case "heading":
        return `## ${markdown(block.text)}`;
      case "text":
        return markdown(block.text);
      case "code":
        return `    ${block.text.replaceAll("\n", "\n    ")}`;
      case "picture":
        return `![${markdown(block.alt)}](${encodeURI(pictureName(block.name))})`;
      case "table": {
        const [head = [], ...body] = block.rows;
        const line = (cells: readonly string[], bold = false) =>
          `| ${cells.map((cell) => (bold && cell !== "" ? `**${markdown(cell)}**` : markdown(cell))).join(" | ")} |`;
        const rule = `|${head.map((_, i) => (i === 0 || block.words ? "---|" : "---:|")).join("")}`;
        const rows = body.map((row, i) => line(row, block.best?.includes(i)));
        return [line(head), rule, ...rows, ...(block.caption ? ["", markdown(block.caption)] : [])].join("\n");
      }
      default:
        return block satisfies never;
    }
  });
  return `${[`# ${markdown(title)}`, ...parts].join("\n\n")}\n`;
}

/** Escaped for Markdown. */
function markdown(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(/[\\`*[\]|]/g, "\\$&")
    .replaceAll(/(^|\W)_|_(?=\W|$)/g, (found) => found.replace("_", "\\_")) // n_head needs none
    .replaceAll("\n", " ");
}

const STYLE = `
:root { color-scheme: light dark; --text: #1d2126; --dim: #5c6670; --page: #ffffff; --line: #d9dee3; --best: #e8f3ea; }
@media (prefers-color-scheme: dark) {
  /* the page is what the pictures' white becomes */
  :root { --text: #e4e7ea; --dim: #9aa4ae; --page: #141414; --line: #3a3d40; --best: #1d3424; }
  figure { filter: invert(0.92) hue-rotate(180deg); }
}
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 1rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; }
p { margin: 0.5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.6rem 0 1.4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.85rem; }
caption { caption-side: bottom; text-align: left; color: var(--dim); padding-top: 0.4rem; }
th, td { padding: 0.3rem 0.5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; } thead th { white-space: normal; }
th:first-child, td:first-child { text-align: left; }
tr.best td, tr.best th { background: var(--best); font-weight: 600; }
table.words td, table.words th { text-align: left; white-space: normal; }
figure { margin: 0.5rem 0; } figure svg { max-width: 100%; height: auto; display: block; }
pre { overflow-x: auto; padding: 0.6rem 0.8rem; border: 1px solid var(--line); border-radius: 4px; font-size: 0.85rem; }
`;

export function toHtml(title: string, blocks: readonly Block[]): string {
  const parts = blocks.map((block): string => {
    switch (block.kind) {
      case "heading":
        return `<h2>${html(block.text)}</h2>`;
      case "text":
        return `<p>${html(block.text)}</p>`;
      case "code":
        return `<pre><code>${html(block.text)}</code></pre>`;
      case "picture":
        return `<figure role="img" aria-label="${html(block.alt)}">${withoutProlog(block.svg)}</figure>`;
      case "table": {
        const [head = [], ...body] = block.rows;
        const cells = (tag: string, row: readonly string[]) =>
          row.map((cell) => `<${tag}>${html(cell)}</${tag}>`).join("");
        const rows = body.map(
          (row, i) => `<tr${block.best?.includes(i) ? ' class="best"' : ""}>${cells("td", row)}</tr>`,
        );
        const caption = block.caption ? `<caption>${html(block.caption)}</caption>` : "";
        const table = `<table${block.words ? ' class="words"' : ""}>${caption}<thead><tr>${cells("th", head)}</tr></thead>`;
        return `<div class="scroll">${table}\n<tbody>${rows.join("\n")}</tbody></table></div>`;
      }
      default:
        return block satisfies never;
    }
  });
  const head = `<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${html(title)}</title>`;
  const body = `<h1>${html(title)}</h1>\n${parts.join("\n")}`;
  return `<!doctype html>\n<html lang="en"><head>${head}<style>${STYLE}</style></head>\n<body>${body}\n</body></html>\n`;
}

function html(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replaceAll(/[&<>"']/g, (character) => entities[character]!);
}

/** A picture inside of a page has no XML prolog. */
function withoutProlog(svg: string): string {
  return svg.replace(/^\s*(<\?xml[^>]*\?>\s*)?(<!DOCTYPE[^>]*>\s*)?/i, "");
}
