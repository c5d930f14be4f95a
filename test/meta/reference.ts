/** What docs/sdxi-1.0.md asks tests for. */

/** The lines of a section, without those of its subsections. */
function section(reference: string, number: string): string[] {
  const lines = reference.split('\n');
  const start = lines.findIndex((line) => new RegExp(`^#+ ${number.replaceAll('.', '\\.')}[. ]`).test(line));
  if (start < 0) throw new Error(`the reference has no section ${number}`);
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => line.startsWith('#'));
  return end < 0 ? rest : rest.slice(0, end);
}

/** Cells of the first table of a section: header, then rows, in document order. */
function table(reference: string, number: string): { header: string[]; rows: string[][] } {
  const lines = section(reference, number);
  const first = lines.findIndex((line) => line.startsWith('|'));
  const rest = lines.slice(first);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  const [header, , ...rows] = (end < 0 ? rest : rest.slice(0, end)).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  return { header, rows };
}

function numbered(reference: string, number: string): string[] {
  return table(reference, number).rows.map((_row, i) => `ref §${number} row ${i + 1}`);
}

/** Everything that has to have a test: rows in document order, rules, cells, numbers. */
export function required(reference: string): string[] {
  const states = table(reference, '3.2');
  const cells = states.rows.flatMap(([from]) => states.header.slice(1).map((request) => `ref §3.2 ${from} × ${request}`));
  const rules = section(reference, '3.3').flatMap((line) => {
    const rule = /^(\d+)\. /.exec(line)?.[1];
    return rule ? [`ref §3.3 rule ${rule}`] : [];
  });
  const rows = ['6.5', '8.3', '13.4', '13.5', '13.6'].flatMap((number) => numbered(reference, number));
  const decisions = [...reference.matchAll(/^\| ([SO]-\d+) \|/gm)].map(([, number]) => number);
  return [...cells, ...rules, ...rows, ...decisions];
}
